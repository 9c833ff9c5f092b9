"""Stein's identities of a density, whatever its Z: a test of weighted points and of chains."""

import numpy as np
from scipy import stats


def stein_level_of_chains(draws: np.ndarray, gradients: np.ndarray, batch: int = 50) -> float:
    """`stein_level` of chains (C, n, D), whose batches of draws are taken to be independent."""
    chains, count, size = draws.shape
    batches = np.arange(chains * count) // batch
    weights = np.full(chains * count, 1 / (chains * count))
    return stein_level(draws.reshape(-1, size), gradients.reshape(-1, size), weights, batches)


def stein_level_of_points(points: np.ndarray, gradients: np.ndarray, weights: np.ndarray) -> float:
    """`stein_level` of weighted points (N, D), each taken to be independent of the others."""
    return stein_level(points, gradients, weights / weights.sum(), np.arange(len(points)))


def stein_level(
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


__all__ = ["stein_level", "stein_level_of_chains", "stein_level_of_points"]
