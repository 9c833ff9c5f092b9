"""`estimator="auto"`: two independent estimates of log Z must agree, or further ones are made."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax

from unnorm.core.progress import report
from unnorm.core.random_keys import fold_in, split_keys
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import Pilot, pilot_from
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.combine import combine, conclusive, contradicting, far_above, line, reliable
from unnorm.partition.estimators.bridge_sampling import Bridge, bridge_estimate
from unnorm.partition.estimators.nested_sampling import NestedSampling, predict_cost
from unnorm.partition.estimators.sequential_monte_carlo import smc_estimate
from unnorm.partition.importance_weights import importance_estimate
from unnorm.partition.options import BUDGET, WEIGHTS, BudgetOptions
from unnorm.partition.proposals.automatic import make_proposal
from unnorm.partition.proposals.base import Proposal

NOTHING = {"values": 0, "gradients": 0}


class Budget:
    """Evaluations spent, and their limit."""

    def __init__(self, spent: dict[str, int], most: float) -> None:
        self.spent, self.most = spent, most

    def spend(self, evaluations: dict[str, int], text: str = "") -> None:
        """Count evaluations, and report them as progress."""
        self.spent = total_evaluations(self.spent, evaluations)
        report(sum(evaluations.values()) / self.most, text)

    def allows(self, evaluations: dict[str, int], share: float = 1.0) -> bool:
        """Whether these fit into a share of the remaining evaluations."""
        return sum(evaluations.values()) <= share * (self.most - sum(self.spent.values()))


class Size(NamedTuple):
    """Indices into `BudgetOptions.particles` and `BudgetOptions.temperatures`."""

    particles: int
    temperatures: int

    def counts(self, options: BudgetOptions) -> tuple[int, int]:
        """The numbers of particles and temperatures."""
        return options.particles[self.particles], options.temperatures[self.temperatures]


class AnnealingResult(NamedTuple):
    """An annealed estimate, its pilot and size; trusted if all estimates of the pilot passed."""

    pilot: Pilot
    estimate: LogZ
    size: Size
    trusted: bool


@dataclass(frozen=True)
class Auto:
    """log Z from two independent estimates that agree.

    The first is importance sampling from a proposal, or annealing; the second is a bridge from
    chains, or annealing again. If these contradict each other, or fewer than two are reliable,
    nested sampling is a third. An unreliable importance sampling estimate far above the estimates
    that agree is a veto: it is repeated with more draws, and if it stays far above, the verdict is
    not "ok".

    Args:
        target_error: the target of the standard error.
        max_evaluations: of log p̃ and its gradient, including pilot and warm-up; an estimate that
            has started runs to its end.
        options: see `BudgetOptions`.
    """

    target_error: float
    max_evaluations: float
    options: BudgetOptions = BUDGET

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        return two_estimates(density, key, self.target_error, self.max_evaluations, self.options)


def two_estimates(
    density: Density,
    key: jax.Array,
    target_error: float,
    max_evaluations: float,
    options: BudgetOptions = BUDGET,
) -> LogZ:
    """See `Auto`; the density is ready for jit.

    Raises:
        NotNormalizableError: the log-density provably does not fall along some direction.
    """
    proposal_key, draw_key, bridge_key, key = split_keys(key, 4)
    report(0, "searching for modes")
    proposal, spent = make_proposal(density, proposal_key)
    search = _Search(proposal, Budget(spent, max_evaluations), key, target_error, options)
    agreed, veto = search.run(draw_key, bridge_key)
    return combine(density, search.estimates, agreed, veto, search.budget.spent, target_error)


class _Search:
    """The estimates so far, and the choice of the next one."""

    def __init__(
        self,
        proposal: Proposal,
        budget: Budget,
        key: jax.Array,
        target_error: float,
        options: BudgetOptions = BUDGET,
    ) -> None:
        self.proposal, self.budget, self.key = proposal, budget, key
        self.target_error, self.options = target_error, options
        self.estimates: list[LogZ] = []
        self.annealed: list[AnnealingResult] = []

    def run(
        self, draw_key: jax.Array, bridge_key: jax.Array
    ) -> tuple[list[LogZ] | None, LogZ | None]:
        """The estimates that agree, and an unreliable one far above them; None for neither."""
        self._draw(draw_key, self.options.draws)
        if self._is_continuous():
            chains = Bridge(chains=self.options.chains, draws=self.options.chain_draws)
            self._add(bridge_estimate(chains, self.proposal, bridge_key, NOTHING))
        repeated, attempts = False, self.options.contradictions
        while True:
            agreed = conclusive(self.estimates, self.target_error)
            veto = far_above(self.estimates, agreed) if agreed else None
            if (agreed and not veto) or (repeated and veto) or not attempts:
                return agreed, veto
            more = {"values": self.options.repeated_draws, "gradients": 0}
            if veto is self.estimates[0] and self.budget.allows(more):
                repeated = True
                self._draw(fold_in(draw_key, 1), self.options.repeated_draws)
                continue
            if self._is_continuous() and not agreed and self._try_nested_sampling():
                continue
            attempts -= len(self.annealed) == 2 and contradicting(self.estimates)
            if not self._anneal_more():
                return agreed, veto

    def _is_continuous(self) -> bool:
        view = self.proposal.view
        return bool(view.dimension) and not any(s.discrete for s in view.supports.values())

    def _add(self, estimate: LogZ) -> None:
        self.estimates.append(estimate)
        self.budget.spend(estimate.evaluations, line(estimate))

    def _draw(self, key: jax.Array, draws: int) -> None:
        """Importance sampling, the first estimate."""
        estimate = importance_estimate(self.proposal, key, draws, NOTHING)
        self.estimates[:1] = [estimate]
        self.budget.spend(estimate.evaluations, line(estimate))

    def _try_nested_sampling(self) -> bool:
        """Nested sampling if two annealed estimates were not conclusive; if reliable, once more
        from a wider proposal.

        Annealing does not cross a first-order phase transition; likelihood contours do.
        """
        before = [z for z in self.estimates if z.estimator == "nested_sampling"]
        if len(self.annealed) < 2 or len(before) > 1 or (before and not before[0].passed):
            return False
        nested, size = NestedSampling(), self.proposal.view.dimension
        # the divergence grows with the squared number of stages, each of which halves the ESS
        stages = max(len(one.pilot.stages) for one in self.annealed)
        cost = predict_cost(nested, size, 0.5 * math.log(2) * stages**2)
        if not self.budget.allows({"values": cost, "gradients": 0}, self.options.nested_share):
            return False
        run_key, shrink_key = split_keys(fold_in(self.key, 7 + len(before)))
        proposal = self._wider() if before else self.proposal
        self._add(nested.from_proposal(proposal, run_key, shrink_key, NOTHING))
        return True

    # -- annealing, again and with more particles ------------------------------------------------
    def _anneal_more(self) -> bool:
        """One more annealed estimate, or the worse of two repeated at greater cost; False if
        neither is affordable.
        """
        key = fold_in(self.key, 10 * len(self.annealed))
        # two estimates from one proposal may miss the same mass; later rounds repeat both
        first = not self.annealed
        if len(self.annealed) < 2:
            wide = not first or self.estimates[0].passed
            confirming = first and len(reliable(self.estimates)) == 1
            aim = self.target_error * (self.options.confirming_error if confirming else 1)
            grown = self._anneal_first(self._wider() if wide else self.proposal, key, aim)
        else:
            grown = self._repeat(key)
        if not grown:
            return False
        others = [z for z in self.estimates if z.estimator != "smc"]
        self.estimates = others + [one.estimate for one in self.annealed]
        return True

    def _anneal_first(self, proposal: Proposal, key: jax.Array, aim: float) -> bool:
        pilot_key, run_key = split_keys(key)
        pilot = pilot_from(proposal, pilot_key, self.options.pilot, NOTHING)
        self.budget.spend(pilot.spent)
        pilot = pilot._replace(spent=NOTHING)
        wanted = self._first_size(pilot, aim)
        least = Size(0, max(wanted.temperatures - 1, 0))
        size = self._affordable(pilot, wanted, least, 1.0 if self.annealed else 0.5)
        if size is None:
            return False
        self.annealed = [*self.annealed, self._run(pilot, run_key, size, trusted=True)]
        return True

    def _repeat(self, key: jax.Array) -> bool:
        def worse_first(i):
            estimate = self.annealed[i].estimate
            return estimate.passed, -estimate.standard_error

        for i in sorted((0, 1), key=worse_first):
            before = self.annealed[i]
            size = self._affordable(before.pilot, self._next_size(before), before.size)
            if size is not None and size != before.size:
                # so that no two runs share random numbers
                at = 100 * size.particles + size.temperatures
                own = fold_in(fold_in(key, i), at)
                again = self._run(before.pilot, own, size, before.trusted)
                self.annealed = [*self.annealed[:i], again, *self.annealed[i + 1 :]]
                return True
        return False

    def _first_size(self, pilot: Pilot, aim: float) -> Size:
        """The size whose error would be a share of the target if particles mixed instantly.

        S stages that each halve the ESS add up to a variance of S² log 2 / (N T) over T
        temperatures.
        """
        options, stages = self.options, len(pilot.stages)
        variance = stages**2 * math.log(2)
        least = max(options.temperatures_per_stage * stages, variance / options.max_variance)
        temperatures = _index(options.temperatures, least)
        error = self._error_share(pilot) * aim
        needed = variance / (options.temperatures[temperatures] * error**2)
        return Size(_index(options.particles, needed), temperatures)

    def _next_size(self, before: AnnealingResult) -> Size:
        """More particles in proportion to the excess variance; twice of both if the estimate did
        not pass.
        """
        particles, temperatures = before.size.counts(self.options)
        error = self._error_share(before.pilot) * self.target_error
        excess = (before.estimate.standard_error / error) ** 2
        if before.estimate.passed:
            more = _index(self.options.particles, particles * max(excess, 1.5))
            return Size(more, before.size.temperatures)
        return Size(
            _index(self.options.particles, 2 * particles),
            _index(self.options.temperatures, 2 * temperatures),
        )

    def _error_share(self, pilot: Pilot) -> float:
        if any(one.global_moves for one in pilot.transitions):
            return self.options.error_share_swendsen_wang
        return self.options.error_share

    def _affordable(
        self, pilot: Pilot, wanted: Size, least: Size, share: float = 1.0
    ) -> Size | None:
        """The affordable size nearest to `wanted` and at least `least`; None if there is none."""
        for temperatures in range(wanted.temperatures, least.temperatures - 1, -1):
            for particles in range(wanted.particles, least.particles - 1, -1):
                size = Size(particles, temperatures)
                if self.budget.allows(pilot.cost(*size.counts(self.options)), share):
                    return size
        return None

    def _run(self, pilot: Pilot, key: jax.Array, size: Size, trusted: bool) -> AnnealingResult:
        """The annealed estimate of this size. After one that did not pass the ESS must be larger,
        because a repetition may pass by chance.
        """
        criteria = WEIGHTS
        fraction = criteria.min_ess_fraction if trusted else criteria.min_ess_fraction_annealed
        estimate = smc_estimate(pilot, key, *size.counts(self.options), fraction)
        self.budget.spend(estimate.evaluations, line(estimate))
        return AnnealingResult(pilot, estimate, size, trusted and estimate.passed)

    def _wider(self) -> Proposal:
        """The proposal of a second estimate: wider, or with other bonds removed."""
        continuous, discrete = self.proposal.continuous, self.proposal.discrete
        return replace(
            self.proposal,
            continuous=continuous and continuous.wider(self.options.wider),
            discrete=discrete.other_bonds(seed=1),
        )


def _index(ladder: tuple[int, ...], needed: float) -> int:
    """The index of the first number that is large enough; the last index if none is."""
    return next((i for i, number in enumerate(ladder) if number >= needed), len(ladder) - 1)


__all__ = ["Auto", "two_estimates"]
