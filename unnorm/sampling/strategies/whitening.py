"""Hamiltonian steps in the coordinates that a metric of low rank whitens.

With x = diag(σ) (I + U (√Λ − I) Uᵀ) y a metric M is the unit metric of y: the trajectories are the
same, and each gradient costs two products with U, where the momenta, the velocities and the turning
checks of M would each cost one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc
from blackjax.mcmc.metrics import LowRankInverseMassMatrix
from jax.flatten_util import ravel_pytree

from unnorm.sampling.base import SamplingAlgorithm, tree_where


def in_whitened_coordinates(
    target: Any, metric: LowRankInverseMassMatrix, move: Callable
) -> SamplingAlgorithm:
    """A Hamiltonian kernel, move(key, state, log_density, metric), of which states stay in x."""
    sigma, lam = metric.sigma, metric.lam
    turn, back_turn = (_products(metric, scales) for scales in (jnp.sqrt(lam), 1 / jnp.sqrt(lam)))

    def init(position, key=None):
        return hmc.init(position, target.within_range)

    def step(key, state):
        flat, unravel = ravel_pytree(state.position)
        gradient = ravel_pytree(state.logdensity_grad)[0]

        def log_density(y):
            return target.within_range(unravel(sigma * turn(y)))

        white = hmc.HMCState(back_turn(flat / sigma), state.logdensity, turn(sigma * gradient))
        new, info = move(key, white, log_density, jnp.ones_like(flat))
        back = hmc.HMCState(
            unravel(sigma * turn(new.position)),
            new.logdensity,
            unravel(back_turn(new.logdensity_grad) / sigma),
        )
        stayed = (new.position == white.position).all()  # there and back rounds
        return tree_where(stayed, state, back), info

    return SamplingAlgorithm(init, step)


def _products(metric: LowRankInverseMassMatrix, scales: jax.Array) -> Callable:
    """y -> (I + U (diag(scales) − I) Uᵀ) y, at no cost where there is nothing to do."""
    size, rank = metric.U.shape
    correlated = (metric.lam != 1).any()
    columns = metric.U * (scales - 1)
    if 2 * rank < size:
        return lambda y: jax.lax.cond(correlated, lambda: y + columns @ (metric.U.T @ y), lambda: y)
    # One matrix costs a leapfrog step half of what its two factors do.
    matrix = jax.lax.cond(
        correlated,
        lambda: jnp.eye(size, dtype=columns.dtype) + columns @ metric.U.T,
        lambda: jnp.zeros((size, size), columns.dtype),
    )
    return lambda y: jax.lax.cond(correlated, lambda: matrix @ y, lambda: y)
