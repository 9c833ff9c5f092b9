"""Whether walkers balance: identities that hold under the density itself, whatever its Z."""

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import stats

from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import Run
from unnorm.partition.annealing.transitions import Walker
from unnorm.partition.proposals.mixture import parts

BATCH = 50  # draws of one chain that count as one, for they depend on each other
# share of the heaviest weight: what is lighter may lie anywhere, where pulls are beyond all numbers
NEGLIGIBLE = 1e-12


def off_balance(density: Density, run: Run) -> float:
    """The level at which the last walkers contradict the identities; first ancestors are what is
    independent.
    """
    flat = coordinates(density, run.walkers)
    logs = np.asarray(run.log_weights, float)
    weights = np.exp(logs - logs.max())
    return _level(
        flat,
        np.asarray(run.walkers.pull, float),
        weights / weights.sum(),
        np.asarray(run.ancestors),
    )


def coordinates(density: Density, walkers: Walker) -> np.ndarray:
    """The continuous coordinates (N, D) of walkers."""
    continuous, _ = parts(density, walkers.position)
    return np.asarray(jax.vmap(lambda position: ravel_pytree(position)[0])(continuous), float)


def chains_off_balance(draws: np.ndarray, pulls: np.ndarray) -> float:
    """The same of chains (C, n, D), their draws taken in batches."""
    chains, count, size = draws.shape
    batches = np.arange(chains * count) // BATCH
    weights = np.full(chains * count, 1 / (chains * count))
    return _level(draws.reshape(-1, size), pulls.reshape(-1, size), weights, batches)


def points_off_balance(points: np.ndarray, pulls: np.ndarray, weights: np.ndarray) -> float:
    """The same of weighted points (N, D), each taken to be independent of the others."""
    return _level(points, pulls, weights / weights.sum(), np.arange(len(points)))


def _level(flat: np.ndarray, pull: np.ndarray, weights: np.ndarray, clusters: np.ndarray) -> float:
    """The level of Hotelling's T² for E[∂_i log p̃] = 0 and E[(u_i − c_i) ∂_i log p̃] = −1.

    Integrating by parts gives both, in unconstrained coordinates, where nothing is left at the
    bounds. Walkers that miss a part of the mass do not balance where they end. A combination of
    identities may have less noise than each.

    References:
        Stein (1972); South, Karvonen, Nemeth, Girolami and Oates (2022), arXiv:2002.00033.
    """
    kept = weights > NEGLIGIBLE * weights.max()
    flat, pull, weights, clusters = flat[kept], pull[kept], weights[kept], clusters[kept]
    apart = (flat - weights @ flat) * pull + 1
    features = np.concatenate(
        [part / np.sqrt(weights @ part**2 + 1e-300) for part in (pull, apart)], 1
    )
    whole = np.zeros((clusters.max() + 1, features.shape[1]))
    np.add.at(whole, clusters, weights[:, None] * features)
    shares = np.bincount(clusters, weights, len(whole))
    count, size = 1 / np.sum(shares**2), features.shape[1]
    if count < 2 * size + 10:
        return 1.0
    mean = whole.sum(0)
    noise = whole - shares[:, None] * mean
    squared = float(mean @ np.linalg.lstsq(noise.T @ noise, mean, rcond=1e-10)[0])
    return float(stats.f.sf(squared * (count - size) / (size * (count - 1)), size, count - size))


__all__ = ["chains_off_balance", "coordinates", "off_balance", "points_off_balance"]
