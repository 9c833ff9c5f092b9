"""log Z by nested sampling: live points climb contours of p̃/q, each of which shrinks the mass of q
in a known way.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.special import logsumexp, softmax

from unnorm.core.findings import ERROR, NOTE, Finding, FindingCode
from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.nested_slice_loop import REST, Explored, explored, flattened, pulls
from unnorm.partition.annealing.pilot_run import OF_CHAINS
from unnorm.partition.annealing.stein_checks import points_off_balance
from unnorm.partition.annealing.transitions import OUTSIDE
from unnorm.partition.base import LogZ, added, measures
from unnorm.partition.proposals.automatic import base_for
from unnorm.partition.proposals.mixture import Base
from unnorm.partition.weight_checks import infinite, refuse_discrete, refuse_small

SHRINKAGES = (
    200  # simulated courses of the shrinking mass, whose spread is a part of the standard error
)
UNEVEN = 1e-4  # level of the test that new points are drawn evenly above their contour
LEAST_MOVED = 0.9  # of the slices
NEGLIGIBLE = 1e-8  # weight of a point, relative to the heaviest
LOOKS = 5.5  # values that a slice takes, about
LEAST_WORTH = 50  # live points that the estimate is worth, below which its error tells little


@method
class NestedSampling:
    """log Z = log ∫ (p̃/q) q dx as an integral over the mass X of q above the contours of p̃/q
    (BlackJAX's slices).

    Live points are drawn from a normalized base q; the lowest tenth dies and is replaced by points
    of q above their contour, moved by slices along directions of the live points' covariance. With
    n live points a death shrinks X by a factor of Beta(n, 1): log Z = log Σ (p̃/q)_i ΔX_i. The
    standard error is the spread over simulated courses of X, or that of the shares of the first
    live points' families, if larger: where slices do not cross between modes, the numbers of live
    points in them drift. Points that contradict Stein's identities make it unreliable. Nothing is
    said of a mode that no live point ever was on.

    Args:
        live: points.
        steps: slices for every new point; None: max(5, 3 dimensions), for at 2 the clones are still
            alike.

    Raises:
        ValueError: a discrete variable, an option out of range.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, NestedSampling(live=200), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Skilling (2006), doi:10.1214/06-BA127; Yallup, Kroupa and Handley (2026), arXiv:2601.23252
        (the slices); Fowlie, Handley and Su (2020), arXiv:2006.03371 (the ranks).
    """

    live: int = static(500, at_least=50)
    steps: int | None = static(None, at_least=1)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("NestedSampling", live=(self.live, 50))
        refuse_discrete("NestedSampling", density)
        refuse_small("NestedSampling", steps=(self.slices(density), 1))
        pilot_key, run_key, shrink_key = jax.random.split(key, 3)
        base, cost, endless = base_for(density, pilot_key)
        if endless:
            return infinite(density, "nested_sampling", cost, endless)
        return self.from_base(density, base, run_key, shrink_key, cost)

    def slices(self, density: Density) -> int:
        """For every new point."""
        return max(5, 3 * Unconstrained(density).dimension) if self.steps is None else self.steps

    def from_base(
        self,
        density: Density,
        base: Base,
        run_key: jax.Array,
        shrink_key: jax.Array,
        cost: dict[str, int],
    ) -> LogZ:
        """The run from a base that is given, at a cost so far."""
        run = jax.tree.map(
            np.asarray, explored(density, base, run_key, self.live, self.slices(density))
        )
        cost = {
            "values": cost["values"] + self.live + int(run.slices),
            "gradients": cost["gradients"],
        }
        return _judged(density, run, cost, shrink_key)


def nested_cost(density: Density, options: NestedSampling, nats: float) -> int:
    """About how many values a run takes whose base is so many nats of KL divergence away from the
    density.
    """
    return int(LOOKS * options.live * options.slices(density) * (nats - REST))


# -- the answer ------------------------------------------------------------------------------------
def simulated(
    died: np.ndarray, born: np.ndarray, generator: np.random.Generator, courses: int
) -> np.ndarray:
    """log of each point's part of Z, for many simulated courses of the mass X: (courses, N).

    Args:
        died: (N,), log p̃/q of every point in increasing order, the last live ones included.
        born: (N,), the contour that each was drawn above, −inf for the first, in any order.
        generator: of the shrinkages.
        courses: how many.

    References:
        Skilling (2006), doi:10.1214/06-BA127; Fowlie, Handley and Su (2021),
        doi:10.1093/mnras/stab590 (batches, ties).
    """
    living = np.searchsorted(np.sort(born), died, side="left") - np.arange(len(died))
    log_mass = np.cumsum(
        -generator.exponential(size=(courses, len(died))) / np.maximum(living, 1), axis=1
    )
    before = np.concatenate([np.zeros((courses, 1)), log_mass[:, :-1]], axis=1)
    after = np.concatenate([log_mass[:, 1:], np.full((courses, 1), -np.inf)], axis=1)
    return died + before + np.log(-np.expm1(after - before)) - math.log(2)


def of_families(log_parts: np.ndarray, families: np.ndarray, live: int) -> float:
    """The variance of log Z by the families of the first live points: that of drifting between
    separated modes, too.

    A new point starts at a random one above the contour and may stay in its mode, so that the
    modes' shares drift. The families' shares of Z then differ by more than descent alone makes
    them: a death a live point and nat makes two points one family at a rate of 2/n, of which half
    is the shrinkage's own variance. Σ share² − (1 + depth)/n.
    """
    weights = softmax(log_parts)
    shares = np.bincount(families, weights, live)
    depth = np.sum(weights * np.arange(len(weights))) / live
    return float(np.sum(shares**2) - (1 + depth) / live)


def _judged(density: Density, run: Explored, cost: dict[str, int], key: jax.Array) -> LogZ:
    done, last = int(run.rounds), run.last
    pairs = (
        (run.died, last.loglikelihood), (run.contours, last.loglikelihood_birth), (run.families, last.position.family)
    )  # fmt: skip
    died, born, families = (np.concatenate([dead[:done].ravel(), alive]) for dead, alive in pairs)
    order = np.argsort(died, kind="stable")
    lost = _lost(density, died)
    if lost:
        value = error = math.nan
        findings = [lost]
    else:
        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        parts = simulated(died[order].astype(float), born.astype(float), generator, SHRINKAGES)
        unbalanced, looks = _unbalanced(density, run, order, softmax(parts.mean(0)))
        cost = added(cost, {"values": 0, "gradients": looks})
        courses = logsumexp(parts, axis=1)
        drift = of_families(parts.mean(0), families[order], len(last.loglikelihood))
        value, error = float(courses.mean()), math.sqrt(max(float(courses.var(ddof=1)), drift))
        findings = [*unbalanced, *_findings(run, done, error)]
    bad = any(finding.severity == ERROR for finding in findings)
    verdict = "unreliable" if bad else "ok"
    return LogZ(
        value, error, cost, verdict, measures(density), "nested_sampling", findings=findings
    )


def _unbalanced(
    density: Density, run: Explored, order: np.ndarray, weights: np.ndarray
) -> tuple[list[Finding], int]:
    """Whether the points contradict Stein's identities, and how many gradients that took.

    Slices along the live points' covariance do not enter a neck of another scale, and the ranks do
    not see it: on a funnel the answer is as much as .45 low at a standard error of .13.
    """
    dead = run.places[: int(run.rounds)].reshape(-1, run.places.shape[-1])
    points = np.concatenate([dead, np.asarray(flattened(run.last.position.at))])[order]
    heavy = weights > NEGLIGIBLE * weights.max()
    points, weights = points[heavy], weights[heavy]
    level = points_off_balance(points, np.asarray(pulls(density, jnp.asarray(points))), weights)
    if not level < OF_CHAINS:
        return [], len(points)
    what = f"the points do not balance (Stein's identities, p = {level:.1e})"
    return [
        Finding(
            what,
            "some of the mass was not reached: raise steps, or reparametrize",
            code=FindingCode.STEIN_MISMATCH,
        )
    ], len(points)


def _lost(density: Density, heights: np.ndarray) -> Finding | None:
    if not np.all(heights < np.inf):
        what = f"the log-density of {density.name} was NaN or +infinity at a live point"
        return Finding(
            what,
            "correct the function where it overflows or leaves its domain",
            code=FindingCode.NOT_FINITE,
        )
    if heights.max() < OUTSIDE / 2:
        what = f"the log-density of {density.name} was minus infinity at every live point"
        return Finding(
            what,
            "declare the variables with the supports that the density has",
            code=FindingCode.NOT_FINITE,
        )
    return None


def _findings(run: Explored, done: int, error: float):
    if not run.rest <= REST:
        share = math.exp(float(run.rest))
        yield Finding(
            f"the run ended at its bound with {share:.1%} of Z in the live points",
            "rescale the variables",
            code=FindingCode.NOT_CONVERGED,
        )
    if done and not run.moved >= LEAST_MOVED:
        what = f"only {run.moved:.1%} of the slices found a new point"
        yield Finding(what, "rescale or smooth the density", code=FindingCode.STUCK_CHAIN)
    ranks = run.ranks[:done].ravel()
    chance = stats.kstest(ranks, "uniform").pvalue if done else 1.0
    if not chance > UNEVEN:
        what = f"new points were not drawn evenly above their contours (p = {chance:.1e} of their ranks)"
        yield Finding(what, "raise steps or live", code=FindingCode.NOT_MIXED)
    if not error**2 * LEAST_WORTH <= 1:
        what = f"log Z is worth {error**-2:.0f} live points: few families hold its mass, or it lies deep"
        yield Finding(what, "raise live", code=FindingCode.LARGE_ERROR)
    yield Finding(f"{ranks.size:,} points died", "", NOTE)


__all__ = ["NestedSampling", "nested_cost", "of_families", "simulated"]
