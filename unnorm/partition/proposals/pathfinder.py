"""Pathfinder: normal approximations along quasi-Newton paths.

References: Zhang, Carpenter, Gelman and Vehtari (2022), arXiv:2108.03782.
"""

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.vi import pathfinder

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.quadrature.laplace import Mode, distinct_modes
from unnorm.partition.options import MIXTURE


@compiled(static_argnames=("draws", "steps"))
def _paths(
    view: Unconstrained, keys: jax.Array, draws: int, steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Means, covariances and evidence lower bounds of normal approximations along quasi-Newton
    paths.
    """

    def one(key):
        start, follow, spread = split_keys(key, 3)
        position = view.random_position(start, jnp.result_type(float))
        discrete = view.discrete(position)

        def value(flat):
            return view.log_density(view.split(flat) | discrete)

        found, _ = pathfinder.approximate(
            follow, value, view.flatten(position), draws, maxiter=steps
        )
        sample, _ = pathfinder.sample(spread, found, draws)
        return sample.mean(0), jnp.atleast_2d(jnp.cov(sample.T)), found.elbo

    return jax.lax.map(one, keys)


def pathfinder_modes(
    view: Unconstrained, key: jax.Array, paths: int = 8, draws: int = 200, steps: int = 30
) -> tuple[list[Mode], dict[str, int]]:
    """The distinct normal approximations at the ends of paths, and their evaluations.

    BlackJAX does not report evaluations of line searches beyond one per step; they are not counted.

    Args:
        view: of the density.
        key: of the starts and draws.
        paths: number of random starts.
        draws: number from each approximation, for its mean and covariance.
        steps: the largest number per path.

    References:
        Zhang, Carpenter, Gelman and Vehtari (2022), arXiv:2108.03782.
    """
    found = _paths(view, key_array(key, paths), draws, steps)
    means, covariances, bounds = (np.asarray(part, float) for part in found)
    good = np.isfinite(bounds) & np.isfinite(covariances).all((1, 2))
    modes = distinct_normals(list(zip(means[good], covariances[good], bounds[good], strict=True)))
    return modes, {"values": paths * steps * draws, "gradients": paths * steps}


def distinct_normals(normals: list[tuple[np.ndarray, np.ndarray, float]]) -> list[Mode]:
    """The distinct ones among normal distributions (mean, covariance, log mass)."""
    if not normals:
        return []
    size = len(normals[0][0])
    spread = [
        c + 1e-9 * np.trace(c) / size * np.eye(size) + 1e-30 * np.eye(size) for _, c, _ in normals
    ]
    if size > MIXTURE.max_dense_dimension:
        spread = [np.diag(np.diag(c)) for c in spread]
    heights = [
        mass - 0.5 * np.linalg.slogdet(c)[1]
        for (_, _, mass), c in zip(normals, spread, strict=True)
    ]
    return distinct_modes(
        np.array([mean for mean, *_ in normals]), np.array(heights), np.linalg.inv(np.array(spread))
    )
