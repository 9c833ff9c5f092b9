"""Σ_k d_k' ∇²f d_k + b·∇f and the slopes d_k'∇f, exactly, by several methods of the same value."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.numerics.forward_laplacian import forward_laplacian


class Field(NamedTuple):
    """The second-order operator at a point: M = Σ_k d_k d_k', and b, the divergence of M."""

    directions: jax.Array  # (k, d)
    drift: jax.Array  # (d,)


def blocks(directions: jax.Array) -> jax.Array:
    """Directions of several vectors, (..., k, d), as directions of all coordinates, (k', d')."""
    return jax.scipy.linalg.block_diag(*directions.reshape(-1, *directions.shape[-2:]))


def terms(
    log_density: Callable, value: jax.Array, field: Field, trace: str
) -> tuple[jax.Array, jax.Array]:
    """tr(M ∇²f) + b·∇f, and the slopes r with r'r = ∇f'M∇f, of f = log p̃ at one value."""
    trace = "forward_laplacian" if trace == "auto" else trace  # the fastest at every size measured
    return TRACES[trace](lambda x: log_density(x.reshape(value.shape)), value.reshape(-1), field)


def by_jacobian(function: Callable, x: jax.Array, field: Field) -> tuple[jax.Array, jax.Array]:
    """The gradient is linearized once and applied to all directions at once."""
    gradient, push = jax.linearize(jax.grad(function), x)
    curvature = jnp.sum(field.directions * jax.vmap(push)(field.directions))
    return curvature + field.drift @ gradient, field.directions @ gradient


def by_forward_laplacian(
    function: Callable, x: jax.Array, field: Field, at_once: int = 8
) -> tuple[jax.Array, jax.Array]:
    """Forward Laplacian passes over `at_once` directions each.

    Passes are recomputed for the parameter gradient, so that what is stored fits the cache. The
    default is the fastest in tests/benchmarks/hessian_trace.py.
    """
    count = len(field.directions)
    passes = -(-count // at_once)
    if passes == 1:
        found = forward_laplacian(function, x, *field)
        return found.second, jnp.stack(found.slopes)
    padding = jnp.zeros((passes * at_once - count, x.size), x.dtype)
    parts = jnp.concatenate([field.directions, padding]).reshape(passes, at_once, x.size)

    @jax.checkpoint
    def add(total, directions):
        found = forward_laplacian(function, x, directions, field.drift / passes)
        return total + found.second, jnp.stack(found.slopes)

    curvature, slopes = jax.lax.scan(add, jnp.zeros((), x.dtype), parts)
    return curvature, slopes.reshape(-1)[:count]


TRACES: dict[str, Callable] = {
    "jacobian": by_jacobian,
    "forward_laplacian": by_forward_laplacian,
    "low_memory": functools.partial(by_forward_laplacian, at_once=1),
}
