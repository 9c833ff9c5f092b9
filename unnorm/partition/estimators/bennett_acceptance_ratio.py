"""log Z by Bennett's acceptance ratio: trajectories from the proposal to the density and back."""

import math
from typing import Any, ClassVar

import jax
import numpy as np
from scipy.special import expit

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.partition.annealing.pilot_run import AnnealingEstimator, Pilot
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.options import RUN
from unnorm.partition.weight_checks import ADVICE, estimate, weight_findings
from unnorm.statistics.importance_weights import balance, pareto_smooth


@method
class Bennett(AnnealingEstimator):
    """log Z by Bennett's acceptance ratio from forward works a and reverse works b of annealed
    trajectories.

    log Z solves Σ σ(a_i − log Z − m) = Σ σ(log Z + m − b_j), σ(t) = 1/(1 + e^−t), m = log(n_F /
    n_R): of all functions of both it has the least variance. The reverse trajectories start from
    particles that were resampled along the same path (an equilibrium only as far as these reach it,
    which their number of lineages shows), and every move is undone by its reversal, Gibbs sweeps in
    the opposite order.

    Args:
        chains: trajectories, each way.
        temperatures: of every trajectory.
        pilot: particles of the pilot.
        base: the proposal q: None for a mixture at the modes, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.

    Example:
        >>> import unnorm as un
        >>> p = un.models.ising.bind(coupling=[[0, 2.0], [2.0, 0]], field=[0.5, -1.0])
        >>> estimator = un.estimators.Bennett(chains=200, temperatures=20)
        >>> z = un.log_z(p, estimator, seed=0, progress=False)
        >>> abs(z.value - 2.01467) < 4 * z.standard_error
        True

    References:
        Bennett (1976), doi:10.1016/0021-9991(76)90078-4; Shirts, Bair, Hooker and Pande (2003),
        doi:10.1103/PhysRevLett.91.140601; Grosse, Ghahramani and Adams (2015), arXiv:1511.02543.
    """

    n_keys: ClassVar[int] = 4

    chains: int = static(default=1000, at_least=10)
    temperatures: int = static(default=100, at_least=1)
    pilot: int = static(default=500, at_least=10)
    base: Any = None

    def estimate_along(self, pilot: Pilot, *keys: jax.Array) -> LogZ:
        out_key, seed_key, draw_key, back_key = keys
        density, size = pilot.path.target.density, (self.chains, self.temperatures)
        out = pilot.anneal(out_key, *size)
        seeds = pilot.anneal(seed_key, *size, resampled=True)
        chosen = _systematic(np.asarray(seeds.log_weights, float), draw_key)
        particles = jax.tree.map(lambda leaf: leaf[chosen], seeds.particles)
        reverse = pilot.anneal_back(back_key, particles, self.temperatures)
        spent = total_evaluations(pilot.spent, pilot.cost(3 * self.chains, self.temperatures))
        forward = np.asarray(out.log_weights, float)
        findings = pilot.findings(seeds) + pilot.nonfinite_findings(out)
        if not (np.isfinite(forward).all() and np.isfinite(reverse).all()):
            what = "works along the path are not finite"
            findings.append(Finding(what, "correct the function", code=FindingCode.NOT_FINITE))
            return estimate(density, self.name, math.nan, math.nan, spent, findings)
        lineages = np.asarray(seeds.ancestors)[chosen]
        value, error, overlap = bennett(forward, reverse, lineages)
        if not overlap >= RUN.min_overlap:  # without any the ratio rests on no trajectory
            what = f"forward and reverse works overlap by {overlap:.1%}"
            findings.append(Finding(what, ADVICE, code=FindingCode.UNRELIABLE_WEIGHTS))
        findings.append(Finding(f"forward and reverse works overlap by {overlap:.0%}", "", NOTE))
        logs = seeds.lineage_log_weights()  # what the way back starts from
        shape = pareto_smooth(logs)[1]
        findings += weight_findings(density, logs, shape)
        return estimate(density, self.name, value, error, spent, findings)


def _systematic(log_weights: np.ndarray, key: jax.Array) -> np.ndarray:
    """Systematic indices of particles in proportion to their weights."""
    weights = np.exp(log_weights - log_weights.max())
    start = float(jax.random.uniform(key))
    ladder = (start + np.arange(len(weights))) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights / weights.sum()), ladder), len(weights) - 1)


def bennett(
    forward: np.ndarray, reverse: np.ndarray, lineages: np.ndarray
) -> tuple[float, float, float]:
    """log Z, its standard error and the overlap of the works (1: equal distributions).

    The error is that of an M-estimator, the reverse works clustered by their lineage.
    """
    value, ratio = balance(forward, reverse), math.log(len(forward) / len(reverse))
    up, down = expit(forward - value - ratio), expit(value + ratio - reverse)
    slope = (up * (1 - up)).sum() + (down * (1 - down)).sum()
    sums = np.bincount(lineages, down - down.mean())
    variance = len(up) * up.var(ddof=1) + (sums**2).sum()
    overlap = 2 * slope / (len(forward) + len(reverse)) / 0.5
    return value, float(math.sqrt(variance) / slope), float(overlap)


__all__ = ["Bennett", "bennett"]
