"""Walkers that follow a density as one of its parameters moves from value to value."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling
from jax.scipy.special import logsumexp

from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import ACCEPTANCE, KEPT, Cloud, Run, drawn_anew, widths_of
from unnorm.partition.annealing.transitions import Moves, Walker, Widths, height_of, looked, moved
from unnorm.partition.proposals.mixture import Base

PER_STAGE = 5  # values of the run for each that the pilot stops at
SHORTEST = (
    2.0**-20
)  # share of the way to the next value, below which the pilot goes there whatever the weights


class Way(NamedTuple):
    """The values that a run stops at, how far to move there, and at which of them log Z is told."""

    values: jax.Array  # (T,)
    widths: Widths  # of arrays with a leading axis T
    told: jax.Array  # (T,)


class Followed(NamedTuple):
    """What the walkers tell at each value: the families' weights, and the same times the slope of
    log p̃.
    """

    weights: jax.Array  # logs (T, N), minus infinity where a family has died out; their mean is Z
    slopes: (
        jax.Array
    )  # (T, N), sums of exp(log weight − top) · ∂ log p̃, top the largest of the families' logs
    last: Run


def at(density: Density, name: str, value) -> Density:
    """The density with this value in the place of a parameter's or constant's; traceable."""
    return density._overridden({name: value})


# -- the pilot -------------------------------------------------------------------------
def way_along(
    density: Density, name: str, base: Base, moves: Moves, cloud: Cloud, values: np.ndarray, key: jax.Array,
    repeats: int,
) -> tuple[Way, int]:  # fmt: skip
    """A way along the values from the first, whose walkers the cloud has, and the number of stages
    that it took.

    A stage goes as far towards the next value as leaves `KEPT` of the walkers' worth.
    """
    stops, widths, told = [], [], []
    for before, value in zip(values, values[1:], strict=False):
        done = 0.0
        while done < 1:
            done = min(1.0, done + _share(density, name, cloud, before, value, done))
            there = before + done * (value - before)
            key, one = jax.random.split(key)
            cloud = _shifted(density, name, base, moves, cloud, there, one, repeats)
            stops.append(float(there))
            widths.append(cloud.widths)
            told.append(done == 1)
    starts = [float(values[0]), *stops[:-1]]
    fine = [np.linspace(a, b, PER_STAGE + 1)[1:] for a, b in zip(starts, stops, strict=True)]
    stacked = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), PER_STAGE, 0), *widths)
    ends = np.arange(len(stops) * PER_STAGE) % PER_STAGE == PER_STAGE - 1
    flags = np.repeat(told, PER_STAGE) & ends
    return Way(jnp.asarray(np.concatenate(fine), base.dtype), stacked, jnp.asarray(flags)), len(
        stops
    )


def _share(
    density: Density, name: str, cloud: Cloud, before: float, value: float, done: float
) -> float:
    """How much of the way the next stage goes: all that is left where no part of it keeps
    enough.
    """
    share = 1 - done
    while share > SHORTEST:
        if float(_worth(density, name, cloud, before + (done + share) * (value - before))) >= KEPT:
            return share
        share /= 2
    return 1 - done


@functools.partial(jax.jit, static_argnames="name")
def _worth(density: Density, name: str, cloud: Cloud, value) -> jax.Array:
    """The share of the cloud that its weights at another value are worth."""
    ratios = jax.vmap(lambda walker: _rise(at(density, name, value), walker))(cloud.walkers)
    return jnp.exp(2 * logsumexp(ratios) - logsumexp(2 * ratios)) / len(ratios)


def _rise(there: Density, walker: Walker) -> jax.Array:
    """log p̃ there less log p̃ here; minus infinity where either is no number."""
    rise = height_of(there, walker.position) - walker.log_target
    return jnp.where(jnp.isfinite(rise), rise, -jnp.inf)


@functools.partial(jax.jit, static_argnames=("name", "moves", "repeats"))
def _shifted(
    density: Density, name: str, base: Base, moves: Moves, cloud: Cloud, value, key, repeats: int
) -> Cloud:
    """The cloud drawn anew at another value and moved there."""
    there, count = at(density, name, value), len(cloud.walkers.log_target)
    weights = jax.nn.softmax(jax.vmap(lambda walker: _rise(there, walker))(cloud.walkers))
    choose, key = jax.random.split(key)
    widths = widths_of(density, cloud.walkers, weights, cloud.widths.log_step)
    chosen = resampling.systematic(choose, weights, count)
    walkers = jax.vmap(lambda position: looked(there, base, position))(
        jax.tree.map(lambda leaf: leaf[chosen], cloud.walkers.position)
    )

    def move(carry, key):
        walkers, widths = carry
        walkers, accepted = _all_moved(there, base, moves, walkers, key, widths)
        log_step = jnp.clip(widths.log_step + 0.5 * (accepted.mean() - ACCEPTANCE), -12.0, 1.0)
        return (walkers, widths._replace(log_step=log_step)), None

    (walkers, widths), _ = jax.lax.scan(move, (walkers, widths), jax.random.split(key, repeats))
    return Cloud(walkers, cloud.power, widths, cloud.acceptance)


def _all_moved(density: Density, base: Base, moves: Moves, walkers: Walker, key, widths: Widths):
    keys = jax.random.split(key, len(walkers.log_target))
    one = jnp.ones((), base.dtype)
    return jax.vmap(lambda walker, key: moved(density, base, moves, one, walker, key, widths))(
        walkers, keys
    )


# -- the run ---------------------------------------------------------------------------
@functools.partial(jax.jit, static_argnames="name")
def told_here(density: Density, name: str, value, run: Run) -> tuple[jax.Array, jax.Array]:
    """The families' log weights (N,) at a value, and the same times the slope of log p̃ there."""

    def slope(walker):
        return jax.grad(lambda moving: height_of(at(density, name, moving), walker.position))(value)

    slopes = jax.vmap(slope)(run.walkers)
    slopes = jnp.where(jnp.isneginf(run.log_weights) | ~jnp.isfinite(slopes), 0.0, slopes)
    top = run.log_weights.max()
    weights, families = jnp.exp(run.log_weights - top), jnp.zeros_like(run.log_weights)
    told = top + jnp.log(families.at[run.ancestors].add(weights))
    return told, families.at[run.ancestors].add(weights * slopes) * jnp.exp(top - told.max())


@functools.partial(jax.jit, static_argnames=("name", "moves"))
def followed(
    density: Density, name: str, base: Base, moves: Moves, way: Way, run: Run, key: jax.Array
) -> Followed:
    """Walkers that go on from a run at the first value along the way; drawn anew whenever their
    weights are uneven.
    """

    def step(carry, given):
        run, (value, widths, tell), key = carry, *given
        there = at(density, name, value)
        walkers = jax.vmap(lambda position: looked(there, base, position))(run.walkers.position)
        rise = walkers.log_target - run.walkers.log_target
        log_weights = run.log_weights + jnp.where(jnp.isfinite(rise), rise, -jnp.inf)
        here = run._replace(walkers=walkers, log_weights=log_weights)
        nothing = jnp.full_like(log_weights, -jnp.inf), jnp.zeros_like(log_weights)
        told = jax.lax.cond(tell, lambda: told_here(density, name, value, here), lambda: nothing)
        choose, move = jax.random.split(key)
        walkers, log_weights, ancestors = drawn_anew(choose, walkers, log_weights, run.ancestors)
        walkers, accepted = _all_moved(there, base, moves, walkers, move, widths)
        bad = run.bad + walkers.bad.sum()
        walkers = walkers._replace(bad=jnp.zeros_like(walkers.bad))
        return run._replace(walkers=walkers, log_weights=log_weights, ancestors=ancestors, bad=bad), (
            *told, accepted.mean(),
        )  # fmt: skip

    keys = jax.random.split(key, len(way.values))
    last, (weights, slopes, acceptance) = jax.lax.scan(step, run, (tuple(way), keys))
    return Followed(
        weights, slopes, last._replace(acceptance=jnp.concatenate([run.acceptance, acceptance]))
    )


def summary(weights: np.ndarray, slopes: np.ndarray) -> dict[str, np.ndarray]:
    """log Z at each value (V,), its covariance (V, V), d log Z and its error, from the families (V,
    N).

    Families are independent of each other: the spread of their weights, relative to the mean, is
        the error of log Z.
    """
    count = weights.shape[1]
    value = logsumexp(weights, axis=1) - math.log(count)
    relative = np.exp(np.asarray(weights - value[:, None], float))
    pulled = np.asarray(slopes, float) * np.exp(np.asarray(weights.max(1) - value, float))[:, None]
    slope = pulled.mean(1)
    apart = pulled - slope[:, None] * relative
    return {
        "log_z": np.asarray(value, float),
        "covariance": np.atleast_2d(np.cov(relative)) / count,
        "derivative": slope,
        "derivative_standard_error": apart.std(1, ddof=1) / math.sqrt(count),
    }


__all__ = ["Followed", "Way", "at", "followed", "summary", "told_here", "way_along"]
