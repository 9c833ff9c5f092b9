"""Stein's identities of the density, whatever its Z: a test of annealed particles and of chains."""

import jax
import numpy as np
from scipy import stats

from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.particles import Run
from unnorm.partition.annealing.tempered import Particle


def stein_level(view: Unconstrained, run: Run) -> float:
    """The level at which the last particles reject the identities; lineages are independent."""
    logs = np.asarray(run.log_weights, float)
    weights = np.exp(logs - logs.max())
    return _level(
        coordinates(view, run.particles),
        np.asarray(run.particles.target_gradient, float),
        weights / weights.sum(),
        np.asarray(run.ancestors),
    )


def coordinates(view: Unconstrained, particles: Particle) -> np.ndarray:
    """The continuous coordinates (N, D) of particles."""
    return np.asarray(jax.vmap(view.flatten)(particles.position), float)


def stein_level_of_chains(draws: np.ndarray, gradients: np.ndarray, batch: int = 50) -> float:
    """The same of chains (C, n, D), whose batches of draws are taken to be independent."""
    chains, count, size = draws.shape
    batches = np.arange(chains * count) // batch
    weights = np.full(chains * count, 1 / (chains * count))
    return _level(draws.reshape(-1, size), gradients.reshape(-1, size), weights, batches)


def stein_level_of_points(points: np.ndarray, gradients: np.ndarray, weights: np.ndarray) -> float:
    """The same of weighted points (N, D), each taken to be independent of the others."""
    return _level(points, gradients, weights / weights.sum(), np.arange(len(points)))


def _level(
    flat: np.ndarray,
    gradients: np.ndarray,
    weights: np.ndarray,
    clusters: np.ndarray,
    negligible: float = 1e-12,
) -> float:
    """The level of Hotelling's T² for E[∂_i log p̃] = 0 and E[(u_i − c_i) ∂_i log p̃] = −1.

    Integration by parts gives both in unconstrained coordinates, where no boundary terms remain.
    Particles that miss a part of the mass violate them where they end. Hotelling's test is used
    because a combination of identities may have less noise than each.

    Args:
        flat: points (N, D).
        gradients: ∂ log p̃ there.
        weights: (N,), their sum 1.
        clusters: (N,), within which points depend on each other.
        negligible: weight relative to the largest; lighter points may have any gradient.

    References:
        Stein (1972); South, Karvonen, Nemeth, Girolami and Oates (2022), arXiv:2002.00033.
    """
    kept = weights > negligible * weights.max()
    flat, gradients, weights, clusters = flat[kept], gradients[kept], weights[kept], clusters[kept]
    apart = (flat - weights @ flat) * gradients + 1
    features = np.concatenate(
        [part / np.sqrt(weights @ part**2 + 1e-300) for part in (gradients, apart)], 1
    )
    sums = np.zeros((clusters.max() + 1, features.shape[1]))
    np.add.at(sums, clusters, weights[:, None] * features)
    shares = np.bincount(clusters, weights, len(sums))
    count, size = 1 / np.sum(shares**2), features.shape[1]
    if count < 2 * size + 10:
        return 1.0
    mean = sums.sum(0)
    noise = sums - shares[:, None] * mean
    squared = float(mean @ np.linalg.lstsq(noise.T @ noise, mean, rcond=1e-10)[0])
    return float(stats.f.sf(squared * (count - size) / (size * (count - 1)), size, count - size))


__all__ = ["coordinates", "stein_level", "stein_level_of_chains", "stein_level_of_points"]
