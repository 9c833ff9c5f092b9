"""An annealed path q^(1−λ) p̃^λ from a normalized base q to the density p̃: its schedule, and
walkers along it.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp

from unnorm.core.progress import report
from unnorm.declaration.density import Density
from unnorm.partition.annealing.independence_move import BINS, margins
from unnorm.partition.annealing.transitions import Moves, Walker, Widths, looked, moved
from unnorm.partition.proposals.mixture import DENSE, Base, draw, parts

# effective share of the pilot's walkers from one temperature to the next: equal steps of divergence
KEPT = 0.5
RESAMPLED = 0.5  # effective share of walkers below which they are drawn anew
ACCEPTANCE = 0.8
UNSETTLED, MOST_REPEATED = (
    0.4,
    20,
)  # acceptance at the pilot's end below which it goes on, and for how many rounds
MOST_STAGES = 300
_HALVINGS = 40


class Schedule(NamedTuple):
    """Temperatures λ from above 0 to 1, and how far to move at each."""

    powers: jax.Array  # (T,)
    widths: Widths  # of arrays with a leading axis T


class Cloud(NamedTuple):
    """A pilot's walkers at one temperature."""

    walkers: Walker
    power: jax.Array
    widths: Widths
    acceptance: jax.Array  # of the last moves


class Run(NamedTuple):
    """What walkers tell that went from the base to the density."""

    walkers: Walker
    log_weights: jax.Array  # (N,): the mean of exp of them is Z
    ancestors: jax.Array  # (N,): from which first walker each descends
    means: jax.Array  # (T + 1,): of log p̃ − log q at each temperature, the base's first
    variances: jax.Array
    acceptance: jax.Array  # (T,)
    first_step: jax.Array  # log of the mean weight at the first temperature
    bad: (
        jax.Array
    )  # how often log p̃ was NaN or +infinity, with those walkers that were not drawn again


# -- the schedule ----------------------------------------------------------------------
def widths_of(density: Density, walkers: Walker, weights: jax.Array, log_step: jax.Array) -> Widths:
    """Steps by the covariance of weighted walkers, kept a little diagonal: few of them may leave it
    flat.
    """
    continuous, _ = parts(density, walkers.position)
    strides = {
        name: jnp.sqrt(jnp.tensordot(weights, (value - jnp.tensordot(weights, value, 1)) ** 2, 1))
        for name, value in walkers.position.items()
        if density.variables[name].discrete and density.variables[name].states is None
    }
    if not continuous:
        none = jnp.ones(0, weights.dtype)
        return Widths(log_step, none, strides, jnp.ones((0, BINS + 1), weights.dtype))
    flat = jax.vmap(lambda position: ravel_pytree(position)[0])(continuous)
    apart = flat - weights @ flat
    variances = weights @ apart**2 + 1e-20
    if flat.shape[1] > DENSE:
        return Widths(log_step, jnp.sqrt(variances), strides, margins(flat, weights))
    covariance = 0.95 * (apart.T * weights) @ apart + 0.05 * jnp.diag(variances)
    return Widths(log_step, jnp.linalg.cholesky(covariance), strides, margins(flat, weights))


@functools.partial(jax.jit, static_argnames="count")
def started(density: Density, base: Base, key: jax.Array, count: int) -> Walker:
    """Walkers drawn from the base."""
    return jax.vmap(lambda key: looked(density, base, draw(density, base, key)))(
        jax.random.split(key, count)
    )


@jax.jit
def standing(density: Density, base: Base, positions: dict) -> Walker:
    """Walkers at given positions."""
    return jax.vmap(lambda position: looked(density, base, position))(positions)


@functools.partial(jax.jit, static_argnames=("moves", "repeats"))
def _cooled(
    density: Density, base: Base, cloud: Cloud, key: jax.Array, moves: Moves, repeats: int
) -> Cloud:
    """The walkers at the next temperature, where their weights are worth `KEPT` of them."""
    ratios = cloud.walkers.log_ratio
    count = len(ratios)
    wanted = KEPT * jnp.sum(jnp.isfinite(cloud.walkers.log_target))

    def enough(rise):
        return jnp.exp(2 * logsumexp(rise * ratios) - logsumexp(2 * rise * ratios)) >= wanted

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        return jnp.where(enough(middle), middle, low), jnp.where(enough(middle), high, middle)

    whole = 1 - cloud.power
    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(whole), whole))
    rise = jnp.where(enough(whole), whole, jnp.maximum(low, 1e-12))
    power, weights = (
        jnp.where(enough(whole), 1.0, cloud.power + rise),
        jax.nn.softmax(rise * ratios),
    )
    chosen_key, move_key = jax.random.split(key)
    widths = widths_of(density, cloud.walkers, weights, cloud.widths.log_step)
    chosen = resampling.systematic(chosen_key, weights, count)
    walkers = jax.tree.map(lambda leaf: leaf[chosen], cloud.walkers)

    def move(carry, key):
        walkers, widths = carry
        walkers, accepted = jax.vmap(
            lambda walker, key: moved(density, base, moves, power, walker, key, widths)
        )(walkers, jax.random.split(key, count))  # fmt: skip
        log_step = jnp.clip(widths.log_step + 0.5 * (accepted.mean() - ACCEPTANCE), -12.0, 1.0)
        return (walkers, widths._replace(log_step=log_step)), accepted.mean()

    (walkers, widths), accepted = jax.lax.scan(
        move, (walkers, widths), jax.random.split(move_key, repeats)
    )
    return Cloud(walkers, power.astype(cloud.power.dtype), widths, accepted[-1])


def piloted(
    density: Density, base: Base, moves: Moves, key: jax.Array, walkers: int, repeats: int
) -> tuple[list[Cloud], Cloud, int]:
    """The stages of an adaptive run, of equal steps in divergence (without their walkers), its last
    cloud, its rounds.

    A base near to the density leaves few stages to learn step sizes in: the last is then repeated.
    """
    start, key = jax.random.split(key)
    first = started(density, base, start, walkers)
    log_step = base.log_step
    if log_step is None:
        log_step = jnp.asarray(-0.25 * math.log(max(base.centres.shape[1], 1)), base.dtype)
    weights = jnp.full(walkers, 1 / walkers, base.dtype)
    zero = jnp.zeros((), base.dtype)
    cloud, stages, rounds = (
        Cloud(first, zero, widths_of(density, first, weights, log_step), zero),
        [],
        0,
    )
    while not stages or (float(cloud.power) < 1 and len(stages) < MOST_STAGES):
        key, one = jax.random.split(key)
        cloud, rounds = _cooled(density, base, cloud, one, moves, repeats), rounds + 1
        stages.append(cloud._replace(walkers=None))
        report(0, lambda power=float(cloud.power): f"pilot at {power:.1%} of the way")
    while (
        moves.continuous
        and float(cloud.acceptance) < UNSETTLED
        and rounds < len(stages) + MOST_REPEATED
    ):
        key, one = jax.random.split(key)
        cloud, rounds = _cooled(density, base, cloud, one, moves, repeats), rounds + 1
        stages[-1] = cloud._replace(walkers=None)
    return stages, cloud, rounds


def schedule_along(stages: list[Cloud], temperatures: int) -> Schedule:
    """So many temperatures evenly along a pilot's stages, whatever their number: walks are then
    compiled once.
    """
    along = len(stages) * np.arange(1, temperatures + 1) / temperatures
    powers = np.interp(
        along, np.arange(len(stages) + 1), [0.0, *(float(stage.power) for stage in stages)]
    )
    at = np.ceil(along - 1e-9).astype(int) - 1
    widths = jax.tree.map(
        lambda *leaves: jnp.stack(leaves)[at], *(stage.widths for stage in stages)
    )
    return Schedule(jnp.asarray(powers, stages[0].power.dtype), widths)


# -- along it --------------------------------------------------------------------------
@functools.partial(jax.jit, static_argnames=("moves", "count", "resample"))
def annealed(
    density: Density,
    base: Base,
    schedule: Schedule,
    key: jax.Array,
    moves: Moves,
    count: int,
    resample: bool = False,
) -> Run:
    """Walkers from the base to the density; with `resample` they are drawn anew whenever their
    weights are uneven.
    """
    start, key = jax.random.split(key)
    walkers = started(density, base, start, count)

    def step(carry, given):
        walkers, log_weights, ancestors, before = carry
        (power, widths), key = given
        ratios = walkers.log_ratio
        told = _moments(ratios, log_weights)
        log_weights = log_weights + (power - before) * ratios
        choose, move = jax.random.split(key)
        if resample:
            walkers, log_weights, ancestors = drawn_anew(choose, walkers, log_weights, ancestors)
        walkers, accepted = jax.vmap(
            lambda walker, key: moved(density, base, moves, power, walker, key, widths)
        )(walkers, jax.random.split(move, count))  # fmt: skip
        told = (*told, accepted.mean(), walkers.bad.sum())
        return (walkers._replace(bad=none), log_weights, ancestors, power), told

    zeros, none, bad = jnp.zeros(count, base.dtype), jnp.zeros_like(walkers.bad), walkers.bad.sum()
    first = (walkers._replace(bad=none), zeros, jnp.arange(count), jnp.zeros((), base.dtype))
    keys = jax.random.split(key, len(schedule.powers))
    (walkers, log_weights, ancestors, _), told = jax.lax.scan(step, first, (tuple(schedule), keys))
    last = _moments(walkers.log_ratio, log_weights)
    first_step = logsumexp(schedule.powers[0] * first[0].log_ratio) - math.log(count)
    means, variances = (jnp.append(along, end) for along, end in zip(told[:2], last, strict=True))
    return Run(
        walkers, log_weights, ancestors, means, variances, told[2], first_step, bad + told[3].sum()
    )


def _moments(ratios: jax.Array, log_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights = jax.nn.softmax(log_weights)
    mean = weights @ ratios
    return mean, weights @ (ratios - mean) ** 2


def drawn_anew(key, walkers: Walker, log_weights, ancestors):
    count = len(log_weights)
    weights = jax.nn.softmax(log_weights)
    uneven = 1 / jnp.sum(weights**2) < RESAMPLED * count
    chosen = jnp.where(uneven, resampling.systematic(key, weights, count), jnp.arange(count))
    level = logsumexp(log_weights) - math.log(count)
    walkers = jax.tree.map(lambda leaf: leaf[chosen], walkers)
    return walkers, jnp.where(uneven, level, log_weights), ancestors[chosen]


@functools.partial(jax.jit, static_argnames="moves")
def reversed_from(
    density: Density, base: Base, schedule: Schedule, walkers: Walker, key: jax.Array, moves: Moves
) -> jax.Array:
    """log-weights of walks from the density's own walkers back to the base; the mean of exp(−them)
    is 1/Z.
    """

    def step(carry, given):
        walkers, work = carry
        (power, widths, rise), key = given
        keys = jax.random.split(key, len(work))
        walkers, _ = jax.vmap(
            lambda walker, key: moved(density, base, moves, power, walker, key, widths, backward=True)
        )(walkers, keys)  # fmt: skip
        return (walkers, work + rise * walkers.log_ratio), None

    rises = jnp.diff(schedule.powers, prepend=0.0)
    keys = jax.random.split(key, len(rises))
    given = ((schedule.powers, schedule.widths, rises), keys)
    (_, work), _ = jax.lax.scan(
        step, (walkers, jnp.zeros_like(walkers.log_target)), given, reverse=True
    )
    return work


__all__ = [
    "Cloud", "Run", "Schedule", "annealed", "drawn_anew", "piloted", "reversed_from", "schedule_along", "standing",
    "started", "widths_of",
]  # fmt: skip
