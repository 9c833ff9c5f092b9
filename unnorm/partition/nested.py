"""log Z by nested sampling: live points climb contours of p̃/q, each of which shrinks the mass of q in a known way."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.ns import adaptive, base, nss
from scipy import stats
from scipy.special import logsumexp

from unnorm.density import Density
from unnorm.diagnostics.verdict import ERROR, NOTE, Finding
from unnorm.methods import method, static
from unnorm.partition.annealing import drawn, log_ratio
from unnorm.partition.base import LogZ, measures
from unnorm.partition.nodes import free_size
from unnorm.partition.pilot import base_for
from unnorm.partition.tempering import OUTSIDE, Base, log_base
from unnorm.partition.weighted import infinite, refuse_small

REST = -5.0  # log of the share of Z that the live points still hold when the run ends: they are counted too
DEEPEST = 400  # nats that a run may shrink the mass of q by
BATCH = 10  # a tenth of the live points is replaced at a time, as one compiled step
SHRINKAGES = 200  # simulated courses of the shrinking mass, whose spread is the standard error
UNEVEN = 1e-4  # level of the test that new points are drawn evenly above their contour
LEAST_MOVED = 0.9  # of the slices


class Explored(NamedTuple):
    """A run: the ratios p̃/q (logs) of the dead points at which each died and above which each was drawn."""

    died: jax.Array  # (rounds, batch), of which `rounds_done` are filled
    ranks: jax.Array  # (rounds, batch), of the new points among those above the contour, on (0, 1)
    living: jax.Array  # (live,), the last live points
    born: jax.Array  # (live,), the contours that they were drawn above
    contours: jax.Array  # (rounds, batch), the same of the dead points
    rounds: jax.Array
    rest: jax.Array  # log of the share of Z in the live points
    slices: jax.Array  # evaluations of all slices
    moved: jax.Array  # share of the slices that found a new point


@method
class NestedSampling:
    """log Z = log ∫ (p̃/q) q dx as an integral over the mass X of q above the contours of p̃/q (BlackJAX's slices).

    Live points are drawn from a normalized base q; the lowest tenth dies and is replaced by points of q above their
    contour, moved by slices along directions of the live points' covariance. With n live points a death shrinks X by a
    factor of Beta(n, 1): log Z = log Σ (p̃/q)_i ΔX_i, and the spread over simulated courses of X is its standard error.
    It says nothing of a mode that no live point ever was on; that new points are drawn evenly is tested by their ranks.

    Args:
        live: points.
        steps: slices for every new point; None: max(5, 2 dimensions).

    Raises:
        ValueError: a discrete variable, an option out of range.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]})
        >>> z = un.log_z(p, NestedSampling(live=200), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Skilling (2006), doi:10.1214/06-BA127; Yallup, Kroupa and Handley (2026), arXiv:2601.23252 (the slices);
        Fowlie, Handley and Su (2020), arXiv:2006.03371 (the ranks).
    """

    live: int = static(500)
    steps: int | None = static(None)

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("NestedSampling", live=(self.live, 50))
        _refuse_discrete(density)
        steps = max(5, 2 * free_size(density)) if self.steps is None else self.steps
        refuse_small("NestedSampling", steps=(steps, 1))
        pilot_key, run_key, shrink_key = jax.random.split(key, 3)
        base, cost, endless = base_for(density, pilot_key)
        if endless:
            return infinite(density, "nested_sampling", cost, endless)
        run = jax.tree.map(np.asarray, explored(density, base, run_key, self.live, steps))
        cost = {"values": cost["values"] + self.live + int(run.slices), "gradients": cost["gradients"]}
        return _judged(density, run, cost, shrink_key)


def _refuse_discrete(density: Density) -> None:
    for name, support in density.variables.items():
        if support.discrete:
            raise ValueError(
                f"Variable {name} is {support!r}, which NestedSampling has no slices for; expected continuous "
                "variables only; use SMC(), AIS() or Exact()."
            )


# -- the run -----------------------------------------------------------------------------------------------------------
@functools.partial(jax.jit, static_argnames=("live", "steps"))
def explored(density: Density, base_law: Base, key: jax.Array, live: int, steps: int) -> Explored:
    """The whole run, one compiled loop: it ends where the live points hold a share of Z below exp(`REST`)."""
    batch, one = max(1, live // BATCH), jnp.ones((), base_law.centre.dtype)

    def prior(position):
        return log_base(density, base_law, one, position)

    start, key = jax.random.split(key)
    made = functools.partial(
        base.init_state_strategy, logprior_fn=prior, loglikelihood_fn=functools.partial(_height, density, base_law)
    )
    kernel = nss.build_kernel(made, steps, batch)
    state = adaptive.init(
        drawn(density, base_law, start, live), jax.vmap(made), -jnp.inf, nss.live_covariance_factor, start
    )
    rounds = DEEPEST * live // batch
    empty = jnp.zeros((rounds, batch), one.dtype)

    def going(carry):
        state, record, _ = carry
        lost = ~jnp.all(state.particles.loglikelihood < jnp.inf)  # a NaN, too
        return (record.rest > REST) & (record.rounds < rounds) & ~lost

    def replace(carry):
        state, record, key = carry
        key, move, even = jax.random.split(key, 3)
        state, info = kernel(move, state)
        contour, at = info.particles.loglikelihood.max(), record.rounds
        moves, gained = info.update_info, state.integrator
        told = record._replace(
            died=record.died.at[at].set(info.particles.loglikelihood),
            contours=record.contours.at[at].set(info.particles.loglikelihood_birth),
            ranks=record.ranks.at[at].set(_ranks(state.particles, contour, batch, even)),
            rounds=at + 1,
            rest=gained.logZ_live - jnp.logaddexp(gained.logZ, gained.logZ_live),
            slices=record.slices + jnp.sum(moves.num_expansions + moves.num_shrink + 2),
            moved=record.moved + jnp.mean(moves.is_accepted, dtype=one.dtype),
        )
        return state, told, key

    record = Explored(empty, empty, *(state.particles.loglikelihood,) * 2, empty, *_zeros(one))
    state, record, _ = jax.lax.while_loop(going, replace, (state, record, key))
    alive = state.particles
    return record._replace(
        living=alive.loglikelihood, born=alive.loglikelihood_birth, moved=record.moved / jnp.maximum(record.rounds, 1)
    )


def _zeros(one: jax.Array) -> tuple[jax.Array, ...]:
    """Rounds, the rest, evaluations, moves: what a record starts from."""
    return jnp.zeros((), int), 0 * one, jnp.zeros((), int), 0 * one


def _height(density: Density, base_law: Base, position: dict) -> jax.Array:
    """log p̃/q. A NaN becomes +inf, for a contour would hide it among the points below; outside is a finite low."""
    ratio = log_ratio(density, base_law, position)
    inside = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(position)]))
    ratio = jnp.where(jnp.isnan(ratio), jnp.where(inside, jnp.inf, OUTSIDE), ratio)
    return jnp.maximum(ratio, OUTSIDE)


def _ranks(particles: Any, contour: jax.Array, batch: int, key: jax.Array) -> jax.Array:
    """Where each new point lies among the others above its contour and the new ones before it: uniform if all is well.

    The new points are those that were born at the contour; ties are broken evenly.
    """
    heights, fresh = particles.loglikelihood, particles.loglikelihood_birth == contour
    new = jnp.where(fresh, size=batch)[0]
    older = jnp.sum((heights < heights[new][:, None]) & ~fresh, 1)
    among = jnp.sum(jnp.tril(heights[new] < heights[new][:, None], -1), 1)
    rivals = jnp.sum(~fresh) + jnp.arange(batch)
    return (older + among + jax.random.uniform(key, (batch,), heights.dtype)) / (rivals + 1)


# -- the answer --------------------------------------------------------------------------------------------------------
def simulated(died: np.ndarray, born: np.ndarray, generator: np.random.Generator, courses: int) -> np.ndarray:
    """log Z for each of many simulated courses of the mass X: (courses,).

    Args:
        died: (N,), log p̃/q of every point, the last live ones included.
        born: (N,), the contour that each was drawn above, −inf for the first.
        generator: of the shrinkages.
        courses: how many.

    References:
        Skilling (2006), doi:10.1214/06-BA127; Fowlie, Handley and Su (2021), doi:10.1093/mnras/stab590 (batches, ties).
    """
    died = np.sort(died)
    living = np.searchsorted(np.sort(born), died, side="left") - np.arange(len(died))
    log_mass = np.cumsum(-generator.exponential(size=(courses, len(died))) / np.maximum(living, 1), axis=1)
    before = np.concatenate([np.zeros((courses, 1)), log_mass[:, :-1]], axis=1)
    after = np.concatenate([log_mass[:, 1:], np.full((courses, 1), -np.inf)], axis=1)
    return logsumexp(died + before + np.log(-np.expm1(after - before)) - math.log(2), axis=1)


def _judged(density: Density, run: Explored, cost: dict[str, int], key: jax.Array) -> LogZ:
    done = int(run.rounds)
    died = np.concatenate([run.died[:done].ravel(), run.living]).astype(float)
    born = np.concatenate([run.contours[:done].ravel(), run.born]).astype(float)
    lost = _lost(density, died)
    if lost:
        value = error = math.nan
        findings = [lost]
    else:
        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        courses = simulated(died, born, generator, SHRINKAGES)
        value, error = float(courses.mean()), float(courses.std(ddof=1))
        findings = list(_findings(run, done))
    bad = any(finding.severity == ERROR for finding in findings)
    verdict = "unreliable" if bad else "ok"
    return LogZ(value, error, cost, verdict, measures(density), "nested_sampling", findings=findings)


def _lost(density: Density, heights: np.ndarray) -> Finding | None:
    if not np.all(heights < np.inf):
        what = f"the log-density of {density.name} was NaN or +infinity at a live point"
        return Finding(what, "correct the function where it overflows or leaves its domain")
    if heights.max() < OUTSIDE / 2:
        what = f"the log-density of {density.name} was minus infinity at every live point"
        return Finding(what, "declare the variables with the supports that the density has")
    return None


def _findings(run: Explored, done: int):
    if not run.rest <= REST:
        share = math.exp(float(run.rest))
        yield Finding(f"the run ended at its bound with {share:.1%} of Z in the live points", "rescale the variables")
    if done and not run.moved >= LEAST_MOVED:
        what = f"only {run.moved:.1%} of the slices found a new point"
        yield Finding(what, "rescale or smooth the density")
    ranks = run.ranks[:done].ravel()
    chance = stats.kstest(ranks, "uniform").pvalue if done else 1.0
    if not chance > UNEVEN:
        what = f"new points were not drawn evenly above their contours (p = {chance:.1e} of their ranks)"
        yield Finding(what, "raise steps or live")
    yield Finding(f"{ranks.size:,} points died", "nothing is to be done", NOTE)


__all__ = ["NestedSampling", "explored", "simulated"]
