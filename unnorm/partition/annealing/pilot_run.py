"""The pilot, the run and its warnings, shared by all estimators along an annealing path."""

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import Finding, FindingCode
from unnorm.core.method import registry_name
from unnorm.core.random_keys import split_keys
from unnorm.declaration.density import Density
from unnorm.partition.annealing.adaptive_run import Population, run_adaptive, schedule_along
from unnorm.partition.annealing.particles import (
    Run,
    Schedule,
    anneal,
    anneal_back,
    coordinates,
    nonfinite_findings,
)
from unnorm.partition.annealing.tempered import AnnealingPath, Particle
from unnorm.partition.annealing.transitions.base import Transitions, evaluations_of
from unnorm.partition.annealing.transitions.independence_move import has_two_modes
from unnorm.partition.annealing.transitions.selection import (
    transitions_for,
    with_independence_moves,
)
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.options import PILOT, RUN, PilotOptions, RunCriteria
from unnorm.partition.proposals.automatic import make_proposal
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.user_given import FLOW, check_proposal


class Pilot(NamedTuple):
    """The result of an adaptive run, and the evaluations so far."""

    path: AnnealingPath
    transitions: Transitions
    stages: list[Population]
    population: Population  # the last one
    spent: dict[str, int]

    def schedule(self, temperatures: int) -> Schedule:
        """A schedule of this number of temperatures along the stages."""
        return schedule_along(self.stages, temperatures)

    def anneal(
        self, key: jax.Array, particles: int, temperatures: int, resampled: bool = False
    ) -> Run:
        """Particles from the proposal to the density."""
        schedule = self.schedule(temperatures)
        return anneal(self.path, schedule, key, self.transitions, particles, resampled)

    def anneal_back(self, key: jax.Array, particles: Particle, temperatures: int) -> np.ndarray:
        """Log weights of particles from the density to the proposal."""
        schedule = self.schedule(temperatures)
        work = anneal_back(self.path, schedule, particles, key, self.transitions)
        return np.asarray(work, float)

    def cost(self, particles: int, temperatures: int) -> dict[str, int]:
        """Evaluations of a run."""
        return evaluations_of(self.transitions, self.path, particles * (temperatures + 1))

    def spent_with(self, particles: int, temperatures: int) -> dict[str, int]:
        """Evaluations so far, plus those of a run."""
        return total_evaluations(self.spent, self.cost(particles, temperatures))

    @property
    def name(self) -> str:
        """The name of the density."""
        return self.path.target.density.name

    def findings(self, run: Run, criteria: RunCriteria = RUN) -> list[Finding]:
        """Warnings about a run, from the pilot and the particles."""
        findings = self.arrival_findings()
        continuous = self.path.target.dimension
        if continuous and not np.min(run.acceptance) >= criteria.min_acceptance:
            what = f"the acceptance rate was as low as {np.min(run.acceptance):.1%}"
            findings.append(
                Finding(what, "rescale or smooth the density", code=FindingCode.LOW_ACCEPTANCE)
            )
        findings += self.nonfinite_findings(run)
        level = run.stein_level(self.path.target) if continuous else 1.0
        if level < criteria.stein_level:
            what = (
                "Stein's identities E[∂ log p̃] = 0 and E[(x − c) ∂ log p̃] = −1 are rejected at "
                f"the last temperature (p = {level:.1e})"
            )
            advice = "some of the mass was not reached: raise temperatures, or reparametrize"
            findings.append(Finding(what, advice, code=FindingCode.STEIN_MISMATCH))
        return findings

    def arrival_findings(self) -> list[Finding]:
        """An error if the pilot stopped before the density."""
        reached = float(self.population.inverse_temperature)
        if reached >= 1:
            return []
        what = f"the pilot stopped at λ = {reached:.3g} of 1"
        advice = "raise pilot, or rescale the variables"
        return [Finding(what, advice, code=FindingCode.NOT_CONVERGED)]

    def nonfinite_findings(self, run: Run) -> list[Finding]:
        """A warning if log p̃ was NaN or +infinity."""
        evaluations = len(run.log_weights) * (1 + len(run.acceptance))
        return nonfinite_findings(self.name, int(run.nonfinite), evaluations)


def run_pilot(
    density: Density,
    key: jax.Array,
    particles: int,
    given: Any = None,
    options: PilotOptions = PILOT,
) -> Pilot:
    """The pilot from an automatic proposal, or from the one that is `given`.

    Raises:
        NotNormalizableError: the log-density provably does not fall along some direction.
    """
    proposal_key, key = split_keys(key)
    proposal, spent = start_proposal(density, proposal_key, given, options)
    return pilot_from(proposal, key, particles, spent, options=options)


def pilot_from(
    proposal: Proposal,
    key: jax.Array,
    particles: int,
    spent: dict[str, int],
    transitions: Transitions = (),
    options: PilotOptions = PILOT,
) -> Pilot:
    """The pilot from a proposal, by the given transitions or by default ones."""
    path = AnnealingPath(proposal.view, proposal)
    transitions = transitions or transitions_for(proposal.view, proposal.couplings)
    stages, population, rounds = run_adaptive(path, transitions, key, particles, options)
    steps = particles * (options.repeats * rounds + 1)
    spent = total_evaluations(spent, evaluations_of(transitions, path, steps))
    if path.target.dimension and has_two_modes(coordinates(path.target, population.particles)):
        moves = min(options.independence_moves, path.target.dimension)
        transitions = with_independence_moves(transitions, moves)
    return Pilot(path, transitions, stages, population, spent)


def start_proposal(
    density: Density, key: jax.Array, given: Any = None, options: PilotOptions = PILOT
) -> tuple[Proposal, dict[str, int]]:
    """The result of `make_proposal`, or a flow fitted to particles annealed from it."""
    if not isinstance(given, str) or given != FLOW:
        return make_proposal(density, key, given)
    pilot_key, fit_key = split_keys(key)
    pilot = run_pilot(density, pilot_key, options.flow_particles, options=options)
    return fit_flow_proposal(pilot, options.flow_layers, fit_key), pilot.spent


def fit_flow_proposal(pilot: Pilot, layers: int, key: jax.Array) -> Proposal:
    """The pilot's proposal with a flow that is fitted to its last particles."""
    # flowjax, which is slow to import
    from unnorm.partition.proposals.normalizing_flow import FlowMixture, fit_flow

    proposal = pilot.path.proposal
    flat = coordinates(pilot.path.target, pilot.population.particles)
    flow = fit_flow(jnp.asarray(flat, proposal.dtype), layers, key)
    return replace(
        proposal,
        continuous=FlowMixture(flow, proposal.continuous),
        log_step=pilot.population.tuning.log_step,
    )


class AnnealingEstimator:
    """log Z along q^(1−λ) p̃^λ: a subclass defines the runs and the reduction in `estimate_along`.

    Attributes:
        n_keys: how many keys `estimate_along` takes.
        pilot: particles of the pilot, an option of every subclass.
        base: the proposal, an option of every subclass.
    """

    n_keys: ClassVar[int] = 1
    pilot: int
    base: Any

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        self.check(density)
        pilot_key, *keys = split_keys(key, 1 + self.n_keys)
        return self.estimate_along(self.run_pilot(density, pilot_key), *keys)

    def check(self, density: Density) -> None:
        """Raise if the options do not fit the density."""
        check_proposal(type(self).__name__, density, self.base)

    def run_pilot(self, density: Density, key: jax.Array) -> Pilot:
        """The path, its transitions and temperatures."""
        return run_pilot(density, key, self.pilot, self.base)

    def estimate_along(self, pilot: Pilot, *keys: jax.Array) -> LogZ:
        """log Z from runs along the pilot's path."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The registry name."""
        return registry_name(type(self))


__all__ = [
    "AnnealingEstimator", "Pilot", "fit_flow_proposal", "pilot_from", "run_pilot",
    "start_proposal",
]  # fmt: skip
