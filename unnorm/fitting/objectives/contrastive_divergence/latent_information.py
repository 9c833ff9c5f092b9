"""The score of a row whose latent variables were sampled with the row held: E[∇ log p̃(x_i, h) |
x_i].
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.objectives.contrastive_divergence.covariance import score_function
from unnorm.fitting.row_normalizers import latent_density
from unnorm.integration.conditional import count_of
from unnorm.sampling.short_runs import run_chains

_ROUNDS = 100  # of each of two halves


@functools.partial(jax.jit, static_argnames="rounds")
def _latent_scores(density, latent: dict, events: dict, key, rounds: int) -> jax.Array:
    """Each row's mean score over its latent chain, by two halves of some rounds (2, n, p)."""
    score, target = score_function(density), Unconstrained(latent_density(density, events))

    def one(carry, given):
        positions, sums = carry
        key, half = given
        positions, *_ = run_chains(
            latent["kernel"], target, positions, key, 1, latent["tuning"], events
        )
        scores = jax.vmap(score)(events | target.events_at(positions))
        return (
            positions,
            sums + jax.nn.one_hot(half, 2, dtype=scores.dtype)[:, None, None] * scores,
        ), None

    size, count = ravel_pytree(density.free())[0].size, count_of(events)
    start = latent["positions"], jnp.zeros((2, count, size), jnp.result_type(*events.values()))
    half = jnp.arange(2 * rounds) // rounds
    (_, sums), _ = jax.lax.scan(one, start, (jax.random.split(key, 2 * rounds), half))
    return sums / rounds


def information_of_rows(density, state, events, key) -> np.ndarray:
    """Cov(E[s | x_i]) over the rows: the information where variables are latent and the model is
    true.

    References: Louis (1982), doi:10.1111/j.2517-6161.1982.tb01203.x (E[s | x] is the score of x).
    """
    one, other = np.asarray(_latent_scores(density, state.shared["latent"], events, key, _ROUNDS))
    found = (one - one.mean(0)).T @ (other - other.mean(0)) / len(one)
    values, vectors = np.linalg.eigh((found + found.T) / 2)
    return (
        vectors * np.maximum(values, 0.0)
    ) @ vectors.T  # noise may leave a small eigenvalue below zero


__all__ = ["information_of_rows"]
