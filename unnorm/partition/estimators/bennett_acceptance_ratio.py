"""log Z by Bennett's acceptance ratio: walks from the base to the density and from the density to
the base.
"""

import math
from typing import Any

import jax
import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import annealed, reversed_from
from unnorm.partition.annealing.pilot_run import not_numbers, path_findings, path_for
from unnorm.partition.annealing.transitions import cost_of
from unnorm.partition.base import LogZ, added
from unnorm.partition.proposals.user_given import check_base
from unnorm.partition.weight_checks import (
    ADVICE,
    by_ancestor,
    infinite,
    judged,
    refuse_small,
    settled,
)
from unnorm.statistics.importance_weights import pareto_smoothed

LEAST_OVERLAP = 0.02  # of the works' two laws; without any the ratio rests on no walk
ITERATIONS = 10_000  # of the root search, at most: works of walkers that were lost reach to −1e30


@method
class Bennett:
    """log Z by Bennett's acceptance ratio from forward works a and reverse works b of annealed
    walks.

    log Z solves Σ σ(a_i − log Z − m) = Σ σ(log Z + m − b_j), σ(t) = 1/(1 + e^−t), m = log(n_F /
    n_R): of all functions of both it has the least variance. The reverse walks start from particles
    that were drawn anew along the same path (an equilibrium only as far as these reach it, which
    their number of families tells), and every move is undone by its reversal, Gibbs sweeps in the
    opposite order.

    Args:
        chains: walks, each way.
        temperatures: of every walk.
        pilot: walkers of the pilot.
        base: where walks start: None for the modes that climbs find, "pathfinder", "flow" (fitted
            to annealed draws), NumPyro distributions of the continuous variables (a dict), or draws
            of the density (a dict by variable, or what `un.sample` returns) whose mean and
            covariance a Student's t takes.

    Example:
        >>> import unnorm as un
        >>> p = un.models.ising.bind(coupling=[[0, 2.0], [2.0, 0]], field=[0.5, -1.0])
        >>> z = un.log_z(p, un.estimators.Bennett(chains=200, temperatures=20), seed=0, progress=False)
        >>> abs(z.value - 2.01467) < 4 * z.standard_error
        True

    References:
        Bennett (1976), doi:10.1016/0021-9991(76)90078-4; Shirts, Bair, Hooker and Pande (2003),
        doi:10.1103/PhysRevLett.91.140601; Grosse, Ghahramani and Adams (2015), arXiv:1511.02543.
    """

    chains: int = static(1000, at_least=10)
    temperatures: int = static(100, at_least=1)
    pilot: int = static(500, at_least=10)
    base: Any = None

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small(
            "Bennett",
            chains=(self.chains, 10),
            temperatures=(self.temperatures, 1),
            pilot=(self.pilot, 10),
        )
        check_base("Bennett", density, self.base)
        path_key, out_key, seed_key, draw_key, back_key = jax.random.split(key, 5)
        path, cost, endless = path_for(density, path_key, self.pilot, self.base)
        if endless:
            return infinite(density, "bennett", cost, endless)
        schedule = path.schedule(self.temperatures)
        out = annealed(density, path.base, schedule, out_key, path.moves, self.chains)
        seeds = annealed(
            density, path.base, schedule, seed_key, path.moves, self.chains, resample=True
        )
        chosen = _drawn(np.asarray(seeds.log_weights, float), draw_key)
        walkers = jax.tree.map(lambda leaf: leaf[chosen], seeds.walkers)
        back = reversed_from(density, path.base, schedule, walkers, back_key, path.moves)
        cost = added(cost, cost_of(density, path.moves, 3 * self.chains * (self.temperatures + 1)))
        forward, reverse = np.asarray(out.log_weights, float), np.asarray(back, float)
        ancestors = np.asarray(seeds.ancestors)[chosen]
        findings = path_findings(density, path, seeds) + not_numbers(density, out)
        if not (np.isfinite(forward).all() and np.isfinite(reverse).all()):
            findings.append(
                Finding(
                    "works along the path are no numbers",
                    "correct the function",
                    code=FindingCode.NOT_FINITE,
                )
            )
            return settled(density, "bennett", math.nan, math.nan, cost, findings)
        value, error, overlap = bennett(forward, reverse, ancestors)
        if not overlap >= LEAST_OVERLAP:
            what = f"forward and reverse works overlap by {overlap:.1%}"
            findings.append(Finding(what, ADVICE, code=FindingCode.UNRELIABLE_WEIGHTS))
        findings.append(Finding(f"forward and reverse works overlap by {overlap:.0%}", "", NOTE))
        families = by_ancestor(seeds)  # what the way back starts from
        shape = pareto_smoothed(families)[1]
        return judged(density, "bennett", value, error, cost, families, shape, findings)


def _drawn(log_weights: np.ndarray, key: jax.Array) -> np.ndarray:
    """Systematic numbers of walkers in proportion to their weights."""
    weights = np.exp(log_weights - log_weights.max())
    start = float(jax.random.uniform(key))
    ladder = (start + np.arange(len(weights))) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights / weights.sum()), ladder), len(weights) - 1)


def bennett(
    forward: np.ndarray, reverse: np.ndarray, families: np.ndarray
) -> tuple[float, float, float]:
    """log Z, its standard error and the overlap of the works (1: they have one law).

    The error is that of an M-estimator, the reverse works clustered by their family.
    """
    value, ratio = balance(forward, reverse), math.log(len(forward) / len(reverse))
    up, down = expit(forward - value - ratio), expit(value + ratio - reverse)
    slope = (up * (1 - up)).sum() + (down * (1 - down)).sum()
    whole = np.bincount(families, down - down.mean())
    variance = len(up) * up.var(ddof=1) + (whole**2).sum()
    overlap = 2 * slope / (len(forward) + len(reverse)) / 0.5
    return value, float(math.sqrt(variance) / slope), float(overlap)


def balance(forward: np.ndarray, reverse: np.ndarray) -> float:
    """The root c of Σ σ(a_i − c − m) = Σ σ(c + m − b_j)."""
    ratio = math.log(len(forward) / len(reverse))

    def unbalanced(c):
        return expit(forward - c - ratio).sum() - expit(c + ratio - reverse).sum()

    ends = (
        min(forward.min(), reverse.min()) - 50 - abs(ratio),
        max(forward.max(), reverse.max()) + 50 + abs(ratio),
    )
    return float(brentq(unbalanced, *ends, xtol=1e-10, maxiter=ITERATIONS))


__all__ = ["Bennett", "balance", "bennett"]
