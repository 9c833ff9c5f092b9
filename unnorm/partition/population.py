"""Draws of the pilot's base and of the density itself, as flat vectors in unconstrained coordinates."""

import math

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding
from unnorm.partition.annealing import Cloud, _cooled, cost_of, drawn
from unnorm.partition.pilot import base_for
from unnorm.partition.tempering import MOST_TEMPERATURES, Base, log_base, spread
from unnorm.sampling.base import Target

MOVES = 4  # of every particle at every temperature


def flattened(positions: dict) -> jax.Array:
    """(N, D), of continuous positions."""
    return jax.vmap(lambda position: ravel_pytree(position)[0])(positions)


def unflattened(density: Density, flat: jax.Array) -> dict:
    """The position of a vector (D,); traceable."""
    position = jax.eval_shape(lambda key: Target(density).random_position(key, flat.dtype), jax.random.key(0))
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), position))[1](flat)


def draws_of_base(density: Density, base: Base, key: jax.Array, count: int) -> jax.Array:
    """(count, D)."""
    return flattened(drawn(density, base, key, count))


def log_base_at(density: Density, base: Base, flat: jax.Array) -> jax.Array:
    """log q at a vector."""
    return log_base(density, base, jnp.ones((), flat.dtype), unflattened(density, flat))


def population(
    density: Density, key: jax.Array, count: int
) -> tuple[Base, jax.Array | None, dict[str, int], Finding | None]:
    """The pilot's base, particles (count, D) annealed from it to the density, what they cost, a finding if Z is infinite."""
    base_key, start, key = jax.random.split(key, 3)
    base, cost, endless = base_for(density, base_key)
    if endless:
        return base, None, cost, endless
    positions, dtype = drawn(density, base, start, count), base.centre.dtype
    mass = spread(density, positions, jnp.full(count, 1 / count, dtype), base.factor.ndim == 2)[1]
    log_step = jnp.asarray(-0.25 * math.log(base.centre.size), dtype)
    cloud, stages = Cloud(positions, jnp.zeros((), dtype), log_step, mass), 0
    while float(cloud.power) < 1 and stages < MOST_TEMPERATURES:
        key, one = jax.random.split(key)
        cloud, stages = _cooled(density, base, cloud, one, MOVES), stages + 1
    spent = cost_of(density, count, stages, MOVES)
    cost = {kind: cost[kind] + spent[kind] for kind in cost}
    return base, flattened(cloud.positions), cost, None


__all__ = ["draws_of_base", "log_base_at", "population", "unflattened"]
