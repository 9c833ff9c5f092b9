"""log Z by annealed importance sampling, on a schedule that a pilot adapts."""

import math
from typing import Any

import jax
import numpy as np

from unnorm.core.findings import NOTE, Finding
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import annealed, reversed_from, standing
from unnorm.partition.annealing.pilot_run import (
    begun,
    not_arrived,
    path_findings,
    path_for,
    path_from,
)
from unnorm.partition.annealing.transitions import cost_of
from unnorm.partition.base import LogZ, added
from unnorm.partition.proposals.mixture import lighter
from unnorm.partition.proposals.user_given import chains_in, check_base, check_draws, positions_of
from unnorm.partition.weight_checks import infinite, judged, refuse_small
from unnorm.statistics.importance_weights import mean_of, pareto_smoothed
from unnorm.statistics.mcmc import effective_sample_size

RISK = 0.05  # by Markov's inequality P(log Ẑ − log Z > log 1/risk) is at most this


@method
class AIS:
    """log Z as the log of the mean weight of walks from a base q to p̃ through q^(1−λ) p̃^λ.

    A walk's weight is Π_t (p̃/q)(x_{t−1})^(λ_t − λ_{t−1}), x_t moved by HMC (and Gibbs) at λ_t; its
    mean is Z exactly. Walks are independent, which the standard error rests on. A small pilot finds
    temperatures of equal divergence, the step sizes and the covariances; log Ẑ − log 20 is a lower
    bound of log Z with probability at least .95.

    With `reverse=` walks undo those moves from draws of p, and the mean of their inverse weights is
    1/Z: log Ẑ + log 20 is then an upper bound, where the draws are exact, as independent ones in a
    dict are taken to be. Draws of `un.sample` are not: no bound is given, and the standard error
    counts what their chains' weights are worth.

    Args:
        chains: walks.
        temperatures: of every walk.
        pilot: walkers of the pilot.
        base: where walks start: None for the modes that climbs find, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.
        reverse: draws of the density (as for base) from which walks go to the base, in place of
            walks to the density.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, un.estimators.AIS(chains=200, temperatures=20), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Neal (2001), doi:10.1023/A:1008923215028; Grosse, Ghahramani and Adams (2015),
        arXiv:1511.02543 (the bound).
    """

    chains: int = static(1000, at_least=10)
    temperatures: int = static(100, at_least=1)
    pilot: int = static(500, at_least=10)
    base: Any = None
    reverse: Any = None

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small(
            "AIS",
            chains=(self.chains, 10),
            temperatures=(self.temperatures, 1),
            pilot=(self.pilot, 10),
        )
        check_base("AIS", density, self.base)
        path_key, key = jax.random.split(key)
        if self.reverse is not None:
            return self._back(density, path_key, key)
        path, cost, endless = path_for(density, path_key, self.pilot, self.base)
        if endless:
            return infinite(density, "ais", cost, endless)
        run = annealed(
            density, path.base, path.schedule(self.temperatures), key, path.moves, self.chains
        )
        cost = added(cost, cost_of(density, path.moves, self.chains * (self.temperatures + 1)))
        logs = np.asarray(run.log_weights, float)
        value, error = mean_of(logs)
        findings = tuple(path_findings(density, path, run))
        bounds = (value + math.log(RISK), math.inf)
        return judged(
            density, "ais", value, error, cost, logs, pareto_smoothed(logs)[1], findings, bounds
        )

    def _back(self, density: Density, path_key: jax.Array, key: jax.Array) -> LogZ:
        check_draws("AIS", "reverse", density, self.reverse, 10)
        base_key, pilot_key = jax.random.split(path_key)
        base, cost, endless = begun(density, base_key, self.base)
        if endless:
            return infinite(density, "ais", cost, endless)
        path = path_from(density, lighter(base), cost, pilot_key, self.pilot)
        positions = positions_of(density, self.reverse, path.base.dtype)
        of_chains = chains_in(self.reverse)
        chains = of_chains or 1
        length = len(next(iter(positions.values()))) // chains
        each = (
            np.linspace(0, length - 1, max(1, min(self.chains // chains, length)))
            .round()
            .astype(int)
        )
        chosen = (length * np.arange(chains)[:, None] + each).ravel()
        walkers = standing(
            density, path.base, {name: value[chosen] for name, value in positions.items()}
        )
        work = reversed_from(
            density, path.base, path.schedule(self.temperatures), walkers, key, path.moves
        )
        logs = -np.asarray(work, float)
        value, error = mean_of(logs)
        bounds, findings = (-math.inf, -value - math.log(RISK)), not_arrived(path)
        if of_chains is not None:
            effective = effective_sample_size(np.exp(logs - logs.max()).reshape(chains, -1), "mean")
            error *= math.sqrt(
                len(logs) / (min(effective, len(logs)) if math.isfinite(effective) else 1.0)
            )
            bounds = None
        what = f"{len(logs):,} walks from draws that are given back to the base"
        findings.append(Finding(what, "", NOTE))
        cost = added(path.cost, cost_of(density, path.moves, len(logs) * (self.temperatures + 1)))
        return judged(
            density, "ais", -value, error, cost, logs, pareto_smoothed(logs)[1], findings, bounds
        )


__all__ = ["AIS"]
