"""Draws of the pilot's base and of the density itself, as flat vectors in unconstrained coordinates."""

import jax
from jax.flatten_util import ravel_pytree

from unnorm.density import Density
from unnorm.diagnostics.verdict import Finding
from unnorm.partition.annealing import started
from unnorm.partition.bases import Base, blank, log_base
from unnorm.partition.path import path_for


def flattened(positions: dict) -> jax.Array:
    """(N, D), of continuous positions."""
    return jax.vmap(lambda position: ravel_pytree(position)[0])(positions)


def unflattened(density: Density, flat: jax.Array) -> dict:
    """The position of a vector (D,); traceable."""
    return blank(density, flat.dtype)[1](flat)


def draws_of_base(density: Density, base: Base, key: jax.Array, count: int) -> jax.Array:
    """(count, D)."""
    return flattened(started(density, base, key, count).position)


def log_base_at(density: Density, base: Base, flat: jax.Array) -> jax.Array:
    """log q at a vector."""
    return log_base(density, base, unflattened(density, flat))


def population(
    density: Density, key: jax.Array, count: int
) -> tuple[Base | None, jax.Array | None, dict[str, int], Finding | None]:
    """The base, particles (count, D) annealed from it to the density, what they cost, a finding if Z is infinite."""
    path, cost, endless = path_for(density, key, count)
    if endless:
        return None, None, cost, endless
    return path.base, flattened(path.cloud.walkers.position), cost, None


__all__ = ["draws_of_base", "flattened", "log_base_at", "population", "unflattened"]
