"""Stein's identities of pairs of coordinates: draws may be right in each and wrong together."""

from statistics import NormalDist

import numpy as np
from scipy import stats

from unnorm.diagnostics.options import PAIRS, STEIN, PairCriteria

Mismatch = tuple[str, str, float, float]  # label, kind, mean, standard error


def pair_mismatches(
    residuals: np.ndarray,
    deviations: np.ndarray,
    labels: list[tuple[str, int]],
    floor: np.ndarray | float = 0.0,
    criteria: PairCriteria = PAIRS,
) -> list[Mismatch]:
    """The pairs (i, j) in which E[r_i d_j] = 0 fails, by batch means.

    r_i has mean zero given all coordinates but i (or is ∂_i log p, whose mean with any function of
    the others is zero), d_j is a coordinate's deviation from its mean. Both are scaled so that the
    mean is minus the error of a correlation where the density's coordinates are independent.

    Args:
        residuals: (chain, draw, K).
        deviations: (chain, draw, D).
        labels: of each residual, and the coordinate that it belongs to.
        floor: of the standard errors, which may be (K, D).
        criteria: limits and budgets.
    """
    products = _batch_means(residuals, deviations, criteria)
    if products is None:
        return []
    owners = np.array([owner for _, owner in labels])
    other = owners[:, None] != np.arange(deviations.shape[-1])
    mean, count = products.mean(0), len(products)
    error = np.maximum(products.std(0, ddof=1) / np.sqrt(count), floor)
    with np.errstate(all="ignore"):
        t = np.where(error > 0, np.abs(mean) / error, 0.0)
    z = stats.norm.isf(np.maximum(stats.t.sf(t, count - 1), 1e-300))
    level = STEIN.false_alarm / 2 / max(int(other.sum()), 1)
    limit = max(STEIN.z_limit, NormalDist().inv_cdf(1 - level))
    names = {owner: label for label, owner in labels}
    found = [
        (f"{labels[i][0]} with {names[j]}", "pair", mean[i, j], abs(mean[i, j]) / z[i, j])
        for i, j in np.argwhere(other & (z > limit))
        if j in names
    ]
    return [(label, kind, float(value), float(error)) for label, kind, value, error in found]


def space_evenly(count: int, most: int) -> np.ndarray:
    """So many of the numbers below count."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _batch_means(
    residuals: np.ndarray, deviations: np.ndarray, criteria: PairCriteria
) -> np.ndarray | None:
    """The mean products in each batch (B, K, D): parts of chains, or groups of many chains; None
    where batches would be too short.
    """
    chains, draws = residuals.shape[:2]
    parts = max(1, -(-criteria.batches // chains))
    if draws // parts < criteria.min_length or deviations.shape[-1] < 2:
        return None
    groups = np.array_split(np.arange(chains), min(chains, criteria.batches))
    places = [(group, part) for group in groups for part in np.array_split(np.arange(draws), parts)]
    products = [
        np.einsum("nk,nd->kd", _rows(residuals, *at), _rows(deviations, *at))
        / (len(at[0]) * len(at[1]))
        for at in places
    ]
    found = np.array(products)
    return found if np.isfinite(found).all() else None


def _rows(values: np.ndarray, chains: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return values[chains[0] : chains[-1] + 1, draws[0] : draws[-1] + 1].reshape(
        -1, values.shape[-1]
    )


__all__ = ["Mismatch", "pair_mismatches", "space_evenly"]
