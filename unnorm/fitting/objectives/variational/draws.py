"""Draws of an encoder, and the random numbers that they are made of."""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.variational.encoder import ENCODER, Components, Encoder
from unnorm.fitting.objectives.variational.upper_bound import upper_log_prob


class Drawn(NamedTuple):
    """Draws z (n, m, D), the noise ε and the components that they came from."""

    z: jax.Array
    noise: jax.Array
    components: Components


class RowNormals(NamedTuple):
    """The standard normal numbers of every row, and what they are for."""

    draws: jax.Array  # (n, draws, e + D)
    others: jax.Array  # (n, k, e + D): for Stein's estimator
    bound: jax.Array  # (n, draws, K, e + 1)

    @staticmethod
    def shapes(draws: int, stein: bool, encoder: Encoder, samples: int) -> list[tuple[int, ...]]:
        """Of the parts of one row."""
        noise = encoder.noise_dimension
        size = noise + len(encoder.last.bias) // 2
        more = max(ENCODER.stein_draws - draws, 1) if stein else 0
        samples = samples if noise else 0
        return [(draws, size), (more, size), (draws, samples, noise + 1)]

    @classmethod
    def of(cls, shapes: list[tuple[int, ...]], flat: jax.Array) -> "RowNormals":
        """The parts, of these shapes, of one array (n, ...)."""
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        parts = zip(shapes, [0, *ends], ends, strict=False)
        return cls(*(flat[:, i:j].reshape(len(flat), *shape) for shape, i, j in parts))


def normals(key: jax.Array, rows: int, shapes: list[tuple[int, ...]], dtype) -> jax.Array:
    """Standard normal numbers (rows, all of these shapes), drawn at once and not again by whatever
    uses them.
    """
    size = sum(map(math.prod, shapes))
    return jax.lax.optimization_barrier(jax.random.normal(key, (rows, size), dtype))


def draw(encoder: Encoder, features: jax.Array, given: jax.Array) -> Drawn:
    """Draws of z for every row by standard normal numbers (n, m, e + D)."""
    noise, blur = jnp.split(given, [encoder.noise_dimension], -1)
    components = encoder.components(features, noise)
    return Drawn(components.means + jnp.exp(components.log_scales) * blur, noise, components)


def upper_log_probs(
    encoder: Encoder, features: jax.Array, drawn: Drawn, given: jax.Array
) -> jax.Array:
    """`upper_log_prob` of every draw, (n, m); exact without noise."""
    if not encoder.noise_dimension:
        return drawn.components.log_prob(drawn.z)
    encoder, features, drawn = jax.lax.stop_gradient((encoder, features, drawn))
    bound = functools.partial(upper_log_prob, encoder)
    return jax.vmap(jax.vmap(bound, (None, 0, 0, 0)))(features, drawn.z, drawn.noise, given)


__all__ = ["Drawn", "RowNormals", "draw", "normals", "upper_log_probs"]
