"""log Z by annealed importance sampling, on a schedule that a pilot adapts."""

import math
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import NOTE, Finding
from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import particles_at
from unnorm.partition.annealing.pilot_run import (
    AnnealingEstimator,
    Pilot,
    pilot_from,
    start_proposal,
)
from unnorm.partition.base import LogZ
from unnorm.partition.proposals.given_draws import chains_in, check_draws, positions_of
from unnorm.partition.weight_checks import (
    estimate,
    estimate_from_weights,
    lower_bound,
    weight_findings,
)
from unnorm.statistics.importance_weights import mean_of, pareto_smooth
from unnorm.statistics.mcmc import effective_sample_size


@method
class AIS(AnnealingEstimator):
    """log Z as the log mean weight of trajectories from a proposal q to p̃ through q^(1−λ) p̃^λ.

    The weight of a trajectory is Π_t (p̃/q)(x_{t−1})^(λ_t − λ_{t−1}), x_t moved by HMC (and Gibbs)
    at λ_t; its mean is Z exactly. The standard error relies on independent trajectories. A small
    pilot finds temperatures of equal divergence, the step sizes and the covariances; log Ẑ − log 20
    is a lower bound of log Z with probability at least .95.

    With `reverse=` trajectories undo those moves from draws of p, and the mean of their inverse
    weights is 1/Z: log Ẑ + log 20 is then an upper bound if the draws are exact. Draws in a dict
    are taken to be independent and exact. Draws of `un.sample` are not: no bound is given, and the
    standard error counts the ESS of their chains' weights.

    Args:
        chains: trajectories.
        temperatures: of every trajectory.
        pilot: particles of the pilot.
        base: the proposal q: None for a mixture at the modes, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.
        reverse: draws of the density (as for base) from which trajectories go to the proposal,
            in place of trajectories to the density.

    Example:
        >>> import unnorm as un
        >>> identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=identity)
        >>> z = un.log_z(p, un.estimators.AIS(chains=200, temperatures=20), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Neal (2001), doi:10.1023/A:1008923215028; Grosse, Ghahramani and Adams (2015),
        arXiv:1511.02543 (the bound).
    """

    chains: int = static(default=1000, at_least=10)
    temperatures: int = static(default=100, at_least=1)
    pilot: int = static(default=500, at_least=10)
    base: Any = None
    reverse: Any = None

    def check(self, density: Density) -> None:
        super().check(density)
        if self.reverse is not None:
            check_draws("AIS", "reverse", density, self.reverse, 10)

    def run_pilot(self, density: Density, key: jax.Array) -> Pilot:
        if self.reverse is None:
            return super().run_pilot(density, key)
        proposal_key, pilot_key = split_keys(key)
        proposal, spent = start_proposal(density, proposal_key, self.base)
        if proposal.continuous is not None:
            proposal = replace(proposal, continuous=proposal.continuous.without_tails())
        return pilot_from(proposal, pilot_key, self.pilot, spent)

    def estimate_along(self, pilot: Pilot, key: jax.Array) -> LogZ:  # type: ignore[override]
        if self.reverse is not None:
            return self._reverse(pilot, key)
        run = pilot.anneal(key, self.chains, self.temperatures)
        logs = np.asarray(run.log_weights, float)
        spent = pilot.spent_with(self.chains, self.temperatures)
        density, bounds = pilot.path.target.density, lower_bound(mean_of(logs)[0])
        return estimate_from_weights(density, self.name, spent, logs, pilot.findings(run), bounds)

    def _reverse(self, pilot: Pilot, key: jax.Array) -> LogZ:
        density = pilot.path.target.density
        positions = positions_of(density, self.reverse, pilot.path.proposal.dtype)
        of_chains = chains_in(self.reverse)
        chains = of_chains or 1
        length = len(next(iter(positions.values()))) // chains
        each = max(1, min(self.chains // chains, length))
        places = np.linspace(0, length - 1, each).round().astype(int)
        chosen = (length * np.arange(chains)[:, None] + places).ravel()
        starts = {name: value[chosen] for name, value in positions.items()}
        particles = particles_at(pilot.path, starts)
        logs = -pilot.anneal_back(key, particles, self.temperatures)
        value, error = mean_of(logs)
        bounds: tuple[float, float] | None = (-math.inf, -lower_bound(value)[0])
        if of_chains is not None:
            ess = effective_sample_size(np.exp(logs - logs.max()).reshape(chains, -1), "mean")
            error *= math.sqrt(len(logs) / (min(ess, len(logs)) if math.isfinite(ess) else 1.0))
            bounds = None
        note = Finding(f"{len(logs):,} trajectories from draws to the proposal", "", NOTE)
        spent, shape = pilot.spent_with(len(logs), self.temperatures), pareto_smooth(logs)[1]
        findings = [*pilot.arrival_findings(), note, *weight_findings(density, logs, shape)]
        return estimate(density, self.name, -value, error, spent, findings, bounds)


__all__ = ["AIS"]
