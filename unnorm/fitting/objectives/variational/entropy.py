"""Estimates of the score ∇_z log q(z | x) of an encoder from its draws, for the gradient of its
entropy: −E[∇_z log q · ∂z].

All are taken in coordinates u = (z − mean(x)) / scale(x), in which a Gaussian q has the score −u.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.random_keys import split_keys
from unnorm.fitting.objectives.variational.encoder import Layer, start_layer


class ScoreNetwork(NamedTuple):
    """h(u, x) = −u + r(u, x), r a network of two hidden layers that starts at 0."""

    features: Layer
    point: jax.Array  # (width, D)
    hidden: Layer
    last: Layer

    def __call__(self, u: jax.Array, features: jax.Array) -> jax.Array:
        """The scores at u (n, m, D), given what the encoder makes of x (n, width)."""
        first = jax.nn.silu(self.features(features)[:, None] + u @ self.point.T)
        return self.last(jax.nn.silu(self.hidden(first))) - u


def start_score_network(
    key: jax.Array, features: int, latent: int, width: int, dtype
) -> ScoreNetwork:
    """The network of which r is 0."""
    first, point, hidden, last = split_keys(key, 4)
    return ScoreNetwork(
        start_layer(first, features, width, dtype),
        start_layer(point, latent, width, dtype).weight,
        start_layer(hidden, width, width, dtype),
        start_layer(last, width, latent, dtype, 0.0),
    )


def sliced_loss(
    network: ScoreNetwork, u: jax.Array, features: jax.Array, directions: jax.Array
) -> jax.Array:
    """The mean of v' ∂h v + ½ |h|² over draws u and directions v, both (n, m, D).

    References:
        Song, Garg, Shi and Ermon (2019), arXiv:1905.07088 (with variance reduction).
    """
    score, slope = jax.jvp(lambda u: network(u, features), (u,), (directions,))
    return jnp.mean(jnp.sum(directions * slope, -1) + 0.5 * jnp.sum(score**2, -1))


def stein_scores(u: jax.Array, ridge: float) -> jax.Array:
    """The scores at draws u (n, m, D) of every row, by Stein's identity in a kernel's space.

    −(K + η I)⁻¹ ⟨∇, K⟩ with a Gaussian kernel, its width the median distance of the draws; few
    draws leave a bias.

    References:
        Li and Turner (2018), Gradient estimators for implicit models, arXiv:1705.07107.
    """

    def one(u: jax.Array) -> jax.Array:
        apart = u[:, None] - u[None]
        squares = jnp.sum(apart**2, -1)
        others = ~jnp.eye(len(u), dtype=bool)
        width = jnp.nanmedian(jnp.where(others, squares, jnp.nan))
        kernel = jnp.exp(-0.5 * squares / width)
        slopes = jnp.sum(kernel[..., None] * apart, 1) / width
        values, vectors = jnp.linalg.eigh(kernel)
        inverse = 1 / (jnp.maximum(values, 0) + ridge)
        return -vectors @ (inverse[:, None] * (vectors.T @ slopes))

    return jax.vmap(one)(u)


__all__ = ["ScoreNetwork", "sliced_loss", "start_score_network", "stein_scores"]
