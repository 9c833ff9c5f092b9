"""The metric of a kernel from the draws of many chains: running moments, a step of all chains at a
time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Moments(NamedTuple):
    """The number of positions seen, their mean, and the sum of their squared deviations (a vector
    or a matrix).
    """

    count: jax.Array  # type: ignore[assignment]
    mean: jax.Array
    squares: jax.Array


def no_moments(size: int, dense: bool) -> Moments:
    """The moments of no positions."""
    return Moments(jnp.zeros(()), jnp.zeros(size), jnp.zeros((size, size) if dense else size))


def update_moments(moments: Moments, positions: jax.Array, counted: jax.Array) -> Moments:
    """The moments with one position (chains, size) of each chain that counts (Chan, Golub and
    LeVeque, 1983).
    """
    weights = counted.astype(moments.count.dtype)
    added = weights.sum()
    share = weights / jnp.maximum(added, 1)
    mean = share @ positions
    apart = positions - mean
    dense = moments.squares.ndim == 2
    squares = (weights[:, None] * apart).T @ apart if dense else weights @ apart**2
    count = moments.count + added
    step = mean - moments.mean
    between = jnp.outer(step, step) if dense else step**2
    safe = jnp.maximum(count, 1)
    return Moments(
        count,
        moments.mean + step * added / safe,
        moments.squares + squares + between * moments.count * added / safe,
    )


def metric_of(moments: Moments, old: jax.Array, *, prior_draws: float = 5.0) -> jax.Array:
    """Variances, or a covariance with its correlations shrunk; whatever the units of the
    coordinates.

    A coordinate that did not move keeps its entry of the old metric. Correlations are shrunk
    towards 0 with the weight of `prior_draws` draws, as in Stan.
    """
    covariance = moments.squares / jnp.maximum(moments.count - 1, 1)
    if covariance.ndim == 1:
        return jnp.where(_usable(covariance), covariance, old)
    variances = jnp.diagonal(covariance)
    usable = _usable(variances)
    shrunk = covariance * moments.count / (moments.count + prior_draws)
    filled = jnp.where(usable[:, None] & usable, shrunk, 0.0)
    return jnp.fill_diagonal(filled, jnp.where(usable, variances, jnp.diagonal(old)), inplace=False)


def _usable(variances: jax.Array) -> jax.Array:
    return (variances > 0) & jnp.isfinite(variances)
