"""`estimator="auto"`: two independent routes to log Z that must agree, and more work only where it
is needed.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax

from unnorm.core.progress import report
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.particles import annealed
from unnorm.partition.annealing.pilot_run import Path, path_findings, path_from
from unnorm.partition.annealing.transitions import cost_of
from unnorm.partition.base import LogZ, added
from unnorm.partition.combine import above, contradicting, healthy, settled_by
from unnorm.partition.consensus import line_of, told
from unnorm.partition.estimators.bridge_sampling import Bridge, bridged
from unnorm.partition.estimators.importance_sampling import weighed
from unnorm.partition.estimators.nested_sampling import NestedSampling, nested_cost
from unnorm.partition.proposals.automatic import base_for
from unnorm.partition.proposals.mixture import Base
from unnorm.partition.proposals.sparse_ising import thinned
from unnorm.partition.weight_checks import (
    LEAST_SHARE,
    SHARE_OF_WALKS,
    by_ancestor,
    infinite,
    judged,
)
from unnorm.statistics.importance_weights import mean_of, pareto_smoothed

DRAWS = 10_000  # of importance sampling
LOCAL = Bridge(chains=8, draws=400)
PILOT = 300
WALKERS = (
    500,
    700,
    1000,
    1500,
    2000,
    3000,
    4000,
    6000,
    8000,
    12000,
    16000,
    24000,
    32000,
)  # few sizes: each compiles
TEMPERATURES = tuple(2**k for k in range(4, 11))
PER_STAGE = 3  # temperatures, at least: a stage leaves half of the walkers' worth
# relative variance of a walker's weight, at most: the spread of heavier ones tells little of their
# error
SPREAD = 1.5
MARGIN = 0.5  # of the target: the error that a size is chosen for, for walkers do not mix at once
OF_CLUSTERS = 0.7  # the same where clusters move, for these nearly do
SECOND = 1.5  # target errors: what is enough to confirm a healthy route
REDRAWN = 160_000  # draws of importance sampling where it stands against routes that agree
# annealed routes that are repeated at more expense while healthy routes contradict each other
PATIENCE = 3
NESTED = NestedSampling()
NESTED_SHARE = 0.5  # of what is left, at most
STAGE_NATS = 0.5 * math.log(
    2
)  # KL divergence of base and density by the squared number of the pilot's stages
WIDER = 1.5  # the base of the second annealed route is so much wider


class Budget:
    """What is spent, and what may be."""

    def __init__(self, cost: dict[str, int], most: int):
        self.cost, self.most = cost, most

    def spend(self, cost: dict[str, int], words: str = "") -> None:
        self.cost = added(self.cost, cost)
        report(sum(cost.values()) / self.most, words)

    def allows(self, cost: dict[str, int], share: float = 1.0) -> bool:
        """Whether the cost is within a share of what is left."""
        return sum(cost.values()) <= share * (self.most - sum(self.cost.values()))


class Size(NamedTuple):
    """Places in `WALKERS` and `TEMPERATURES`."""

    walkers: int
    temperatures: int

    @property
    def counts(self) -> tuple[int, int]:
        return WALKERS[self.walkers], TEMPERATURES[self.temperatures]


class Annealed(NamedTuple):
    """An annealed route: its path, its last answer, of what size that was, and whether every one so
    far passed.
    """

    path: Path
    answer: LogZ
    size: Size
    trusted: bool


@dataclass(frozen=True)
class Auto:
    """`two_routes` as an estimator."""

    target_error: float
    max_evaluations: int

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        return two_routes(density, key, self.target_error, self.max_evaluations)


def two_routes(density: Density, key: jax.Array, target_error: float, max_evaluations: int) -> LogZ:
    """log Z from two routes: importance sampling or annealing from a base, and a bridge from chains
    or annealing again.

    Where these contradict each other, or fewer than two are healthy, nested sampling is a third. An
    unreliable mean of weights far above the routes that agree is a veto: it is drawn again, and
    then no answer is called ok against it.

    Args:
        density: bare.
        key: of the noise.
        target_error: the standard error aimed at.
        max_evaluations: of log p̃ and its gradient, pilot and warm-up counted; a route that has
            begun is ended.
    """
    base_key, weigh_key, bridge_key, key = jax.random.split(key, 4)
    report(0, "climbing to modes")
    base, cost, endless = base_for(density, base_key)
    if endless:
        return infinite(density, "auto", cost, endless)
    budget, none = Budget(cost, max_evaluations), {"values": 0, "gradients": 0}
    routes = [weighed(density, base, weigh_key, DRAWS, none)]
    continuous = Unconstrained(density).dimension and not any(
        support.discrete for support in density.variables.values()
    )
    if continuous:
        routes.append(bridged(LOCAL, density, base, bridge_key, none))
    for route in routes:
        budget.spend(route.evaluations, line_of(route))
    paths, redrawn, patience = [], False, PATIENCE
    while True:
        done = settled_by(routes, target_error)
        veto = above(routes, done) if done else None
        if (done and not veto) or (redrawn and veto) or not patience:
            break
        if veto is routes[0] and budget.allows({"values": REDRAWN, "gradients": 0}):
            routes[0], redrawn = (
                weighed(density, base, jax.random.fold_in(weigh_key, 1), REDRAWN, none),
                True,
            )
            budget.spend(routes[0].evaluations, line_of(routes[0]))
            continue
        if (
            continuous
            and not done
            and (nested := _nested(density, base, paths, routes, key, budget))
        ):
            routes.append(nested)
            continue
        # two routes from one base may miss the same; later rounds repeat the routes that there are
        start = _wider(base) if len(paths) < 2 and (paths or routes[0].passed) else base
        aim = SECOND * target_error if len(healthy(routes)) == 1 and not paths else target_error
        patience -= len(paths) == 2 and contradicting(routes)
        grown = _grown(density, start, paths, jax.random.fold_in(key, 10 * len(paths)), budget, aim)
        if grown is None:
            break
        paths = grown
        routes = [r for r in routes if r.estimator != "smc"] + [path.answer for path in paths]
    return told(density, routes, done, veto, budget.cost, target_error)


def _nested(
    density: Density,
    base: Base,
    paths: list[Annealed],
    routes: list[LogZ],
    key: jax.Array,
    budget: Budget,
) -> LogZ | None:
    """Nested sampling where two annealed routes settled nothing; once more, from a wider base,
    where it is healthy.

    A path of temperatures does not cross a transition of first order; contours do. None: not
    wanted, or no money left.
    """
    before = [route for route in routes if route.estimator == "nested_sampling"]
    if len(paths) < 2 or len(before) > 1 or (before and not before[0].passed):
        return None
    nats = max(STAGE_NATS * len(path.path.stages) ** 2 for path in paths)
    if not budget.allows(
        {"values": nested_cost(density, NESTED, nats), "gradients": 0}, NESTED_SHARE
    ):
        return None
    one = jax.random.fold_in(key, 7 + len(before))
    none = {"values": 0, "gradients": 0}
    found = NESTED.from_base(
        density, _wider(base) if before else base, *jax.random.split(one), none
    )
    budget.spend(found.evaluations, line_of(found))
    return found


# -- annealing, again and with more walkers ---------------------------------------------
def _grown(
    density: Density,
    base: Base,
    paths: list[Annealed],
    key: jax.Array,
    budget: Budget,
    target_error: float,
) -> list[Annealed] | None:
    """The annealed routes with one more, or with the worse of them repeated at more expense; None:
    no money left.
    """
    if len(paths) < 2:
        one, two = jax.random.split(key)
        path = path_from(density, base, {"values": 0, "gradients": 0}, one, PILOT)
        budget.spend(path.cost)
        wanted = _first_size(path, target_error)
        least = Size(0, max(wanted.temperatures - 1, 0))
        size = _affordable(density, path, wanted, least, budget, 1.0 if paths else 0.5)
        return (
            None if size is None else [*paths, _run(density, path, two, size, budget, trusted=True)]
        )
    for i in sorted(
        (0, 1), key=lambda i: (paths[i].answer.passed, -paths[i].answer.standard_error)
    ):
        before = paths[i]
        size = _affordable(
            density, before.path, _next_size(before, target_error), before.size, budget
        )
        if size is not None and size != before.size:
            # no two runs share their noise
            own = jax.random.fold_in(
                jax.random.fold_in(key, i), 100 * size.walkers + size.temperatures
            )
            again = _run(density, before.path, own, size, budget, before.trusted)
            return [*paths[:i], again, *paths[i + 1 :]]
    return None


def _first_size(path: Path, target_error: float) -> Size:
    """The size whose error would be a share of the target if walkers mixed at once.

    S stages that each leave half of the walkers' worth are S² log 2 / (N T) of variance over T
    temperatures.
    """
    stages = len(path.stages)
    variance = stages**2 * math.log(2)
    temperatures = _place(TEMPERATURES, max(PER_STAGE * stages, variance / SPREAD))
    needed = variance / (TEMPERATURES[temperatures] * (_margin(path) * target_error) ** 2)
    return Size(_place(WALKERS, needed), temperatures)


def _next_size(before: Annealed, target_error: float) -> Size:
    """As many more walkers as the error was too large; twice of both where the answer did not
    pass.
    """
    walkers, temperatures = before.size.counts
    excess = (before.answer.standard_error / (_margin(before.path) * target_error)) ** 2
    if before.answer.passed:
        return Size(_place(WALKERS, walkers * max(excess, 1.5)), before.size.temperatures)
    return Size(_place(WALKERS, 2 * walkers), _place(TEMPERATURES, 2 * temperatures))


def _margin(path: Path) -> float:
    return OF_CLUSTERS if path.moves.clusters else MARGIN


def _place(ladder: tuple[int, ...], needed: float) -> int:
    """Where the first rung stands that is high enough; the last if none is."""
    return next((i for i, rung in enumerate(ladder) if rung >= needed), len(ladder) - 1)


def _affordable(
    density: Density, path: Path, wanted: Size, least: Size, budget: Budget, share: float = 1.0
) -> Size | None:
    """The size nearest to the wanted one that there is money for, no smaller than the least; None:
    there is none.
    """
    for temperatures in range(wanted.temperatures, least.temperatures - 1, -1):
        for walkers in range(wanted.walkers, least.walkers - 1, -1):
            size = Size(walkers, temperatures)
            if budget.allows(_cost(density, path, size), share):
                return size
    return None


def _cost(density: Density, path: Path, size: Size) -> dict[str, int]:
    walkers, temperatures = size.counts
    return cost_of(density, path.moves, walkers * (temperatures + 1))


def _run(
    density: Density, path: Path, key: jax.Array, size: Size, budget: Budget, trusted: bool
) -> Annealed:
    """The annealed route of this size; once it did not pass, chance alone may let it pass when it
    is tried again.
    """
    walkers, temperatures = size.counts
    run = annealed(
        density, path.base, path.schedule(temperatures), key, path.moves, walkers, resample=True
    )
    cost = _cost(density, path, size)
    logs = by_ancestor(run)
    value, error = mean_of(logs)
    findings = tuple(path_findings(density, path, run))
    shape, least_share = pareto_smoothed(logs)[1], LEAST_SHARE if trusted else SHARE_OF_WALKS
    answer = judged(
        density, "smc", value, error, cost, logs, shape, findings, least_share=least_share
    )
    budget.spend(cost, line_of(answer))
    return Annealed(path, answer, size, trusted and answer.passed)


def _wider(base: Base) -> Base:
    """The base of the second route: wider, and of other bonds that are left out."""
    return base._replace(
        thinned=base.thinned and thinned(base.couplings, seed=1),
        factors=WIDER * base.factors,
        whiteners=base.whiteners / WIDER,
        log_dets=base.log_dets + base.centres.shape[1] * math.log(WIDER),
    )


__all__ = ["Auto", "two_routes"]
