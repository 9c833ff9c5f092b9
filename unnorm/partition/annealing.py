"""An annealed path q^(1−λ) p̃^λ from a normalized base q to the density p̃: its schedule, and the work along it."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling
from jax.scipy.special import logsumexp

from unnorm.density import Density
from unnorm.partition.nodes import free_size
from unnorm.partition.tempering import (
    ACCEPTANCE,
    LEAPFROGS,
    MOST_TEMPERATURES,
    OUTSIDE,
    Base,
    Place,
    draw,
    log_base,
    mover,
    spread,
)
from unnorm.sampling.base import Target

KEPT = 0.5  # effective share of the pilot's particles from one temperature to the next: equal steps of divergence
_HALVINGS = 40


class Schedule(NamedTuple):
    """Temperatures λ from above 0 to 1, and how to move at each."""

    powers: jax.Array  # (T,)
    log_steps: jax.Array  # (T,), of HMC
    masses: jax.Array  # (T, D) or (T, D, D), the particles' variances


class Cloud(NamedTuple):
    """A pilot's particles at one temperature."""

    positions: dict
    power: jax.Array
    log_step: jax.Array
    mass: jax.Array


def log_ratio(density: Density, base: Base, position: dict) -> jax.Array:
    """log p̃ − log q in unconstrained coordinates, the Jacobian counted."""
    one = jnp.ones((), base.centre.dtype)
    return Target(density).log_density(position) - log_base(density, base, one, position)


def _moved(density: Density, base: Base, power, position: dict, key, log_step, mass) -> tuple[dict, jax.Array]:
    """One HMC move and one Gibbs sweep that leave the density at this temperature unchanged."""
    one = jnp.ones((), base.centre.dtype)

    def at_power(position):
        held = log_base(density, base, one, position)
        return held + power * jnp.maximum(Target(density).log_density(position) - held, OUTSIDE)

    move, jitter = jax.random.split(key)
    # A spread of step sizes, for one fixed length of path may return to where it began.
    step = jnp.exp(log_step) * jax.random.uniform(jitter, (), log_step.dtype, 0.5, 1.5)
    place, accepted = mover(density)(move, Place(position), at_power, step, mass)
    return place.position, accepted


@functools.partial(jax.jit, static_argnames="moves")
def _cooled(density: Density, base: Base, cloud: Cloud, key: jax.Array, moves: int) -> Cloud:
    """The particles at the next temperature, where their weights are worth `KEPT` of them."""
    ratios = jax.vmap(functools.partial(log_ratio, density, base))(cloud.positions)
    ratios = jnp.maximum(ratios, OUTSIDE)
    wanted = KEPT * jnp.sum(ratios > OUTSIDE / 2)

    def enough(rise):
        return jnp.exp(2 * logsumexp(rise * ratios) - logsumexp(2 * rise * ratios)) >= wanted

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        return jnp.where(enough(middle), middle, low), jnp.where(enough(middle), high, middle)

    whole = 1 - cloud.power
    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(whole), whole))
    rise = jnp.where(enough(whole), whole, jnp.maximum(low, 1e-12))
    power, weights = jnp.where(enough(whole), 1.0, cloud.power + rise), jax.nn.softmax(rise * ratios)
    chosen_key, move_key = jax.random.split(key)
    mass = spread(density, cloud.positions, weights, base.factor.ndim == 2)[1]
    chosen = resampling.systematic(chosen_key, weights, len(ratios))
    positions = jax.tree.map(lambda leaf: leaf[chosen], cloud.positions)

    def move(carry, key):
        positions, log_step = carry
        keys = jax.random.split(key, len(ratios))
        positions, accepted = jax.vmap(
            lambda position, key: _moved(density, base, power, position, key, log_step, mass)
        )(positions, keys)
        return (positions, jnp.clip(log_step + 0.5 * (accepted.mean() - ACCEPTANCE), -12.0, 1.0)), None

    (positions, log_step), _ = jax.lax.scan(move, (positions, cloud.log_step), jax.random.split(move_key, moves))
    return Cloud(positions, power.astype(cloud.power.dtype), log_step, mass)


@functools.partial(jax.jit, static_argnames="count")
def drawn(density: Density, base: Base, key: jax.Array, count: int) -> dict:
    """Positions from the base."""
    one = jnp.ones((), base.centre.dtype)
    return jax.vmap(lambda key: draw(density, base, one, key, base.centre.dtype))(jax.random.split(key, count))


def adapted_schedule(
    density: Density, base: Base, key: jax.Array, particles: int, moves: int, temperatures: int
) -> tuple[Schedule, dict[str, int]]:
    """Temperatures evenly along a pilot's, which are of equal steps in divergence, and what the pilot cost."""
    start, key = jax.random.split(key)
    dtype, positions = base.centre.dtype, drawn(density, base, start, particles)
    log_step = jnp.asarray(-0.25 * math.log(max(base.centre.size, 1)), dtype)
    mass = spread(density, positions, jnp.full(particles, 1 / particles, dtype), base.factor.ndim == 2)[1]
    cloud, stages = Cloud(positions, jnp.zeros((), dtype), log_step, mass), []
    while not stages or (float(cloud.power) < 1 and len(stages) < MOST_TEMPERATURES):
        key, one = jax.random.split(key)
        cloud = _cooled(density, base, cloud, one, moves)
        stages.append(cloud._replace(positions=None))
    # as many temperatures whatever the pilot found, so that the walks are compiled once
    along = len(stages) * np.arange(1, temperatures + 1) / temperatures
    powers = np.interp(along, np.arange(len(stages) + 1), [0.0, *(float(stage.power) for stage in stages)])
    at = np.ceil(along - 1e-9).astype(int) - 1
    steps, masses = (jnp.stack([getattr(stage, part) for stage in stages])[at] for part in ("log_step", "mass"))
    return Schedule(jnp.asarray(powers, dtype), steps, masses), cost_of(density, particles, len(stages), moves)


@jax.jit
def annealed(density: Density, base: Base, schedule: Schedule, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One walk along the schedule for each key: log of its weight, whose mean is Z, and the moves' acceptance (T,)."""

    def walk(key):
        start, *rest = jax.random.split(key, 1 + len(schedule.powers))
        position = draw(density, base, jnp.ones((), base.centre.dtype), start, base.centre.dtype)

        def step(carry, given):
            position, work, before = carry
            (power, log_step, mass), key = given
            work = work + (power - before) * log_ratio(density, base, position)
            position, accepted = _moved(density, base, power, position, key, log_step, mass)
            return (position, work, power), accepted

        zero = jnp.zeros((), base.centre.dtype)
        (_, work, _), accepted = jax.lax.scan(step, (position, zero, zero), (tuple(schedule), jnp.stack(rest)))
        return work, accepted

    works, accepted = jax.lax.map(walk, keys, batch_size=1000)
    return works, accepted.mean(0)


def cost_of(density: Density, chains: int, temperatures: int, moves: int = 1) -> dict[str, int]:
    """Evaluations of walks: one at each temperature for its weight, and those of its moves."""
    sites = sum(math.prod(density.shapes()[n]) for n, s in density.variables.items() if s.discrete)
    leaps, flips = (LEAPFROGS + 1 if free_size(density) else 0), (sites + 1 if sites else 0)
    steps = chains * temperatures
    return {"values": steps * (1 + moves * flips), "gradients": steps * moves * leaps}


__all__ = ["Schedule", "adapted_schedule", "annealed", "cost_of", "drawn", "log_ratio"]
