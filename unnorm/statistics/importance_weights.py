"""Importance weights: their heaviest smoothed by a generalized Pareto law, whose shape says whether
to believe them.
"""

import math

import numpy as np
from scipy.special import logsumexp

HEAVY = 0.7  # Pareto shape above which means of the weights cannot be trusted
ROUNDING = 1e-12  # of log weights, relative


def pareto_smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Log weights with the largest replaced by quantiles of a generalized Pareto law, and its shape
    k̂.

    Weights have 1/k finite moments; k̂ above min(1 − 1/log₁₀ n, .7) says that n of them are too few
    for their mean.

    Args:
        log_weights: (n,), −inf for points outside the density.

    Returns:
        The log weights in the units they came in, and k̂ (NaN where all weights are equal or none
        is positive).

    Example:
        >>> import numpy as np
        >>> weights, shape = pareto_smoothed(np.random.default_rng(0).normal(size=1000))
        >>> shape < 0.7
        True

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), arXiv:1507.02646.
    """
    from arviz_stats.base import array_stats

    log_weights = np.asarray(log_weights, float)
    inside = np.isfinite(log_weights)
    if inside.sum() < 25 or np.ptp(log_weights[inside]) < 1e-12:
        return log_weights, math.nan
    given = _tied(log_weights[inside])
    tail = np.sort(given)[-math.ceil(min(0.2 * len(given), 3 * math.sqrt(len(given)))) :]
    if tail[0] == tail[-1]:  # the heaviest weights of a few states, drawn many times
        return log_weights, math.nan
    with np.errstate(
        all="ignore"
    ):  # ties in the tail: its law cannot be fitted, and the shape is NaN
        smoothed, shape = array_stats.psislw(
            -given
        )  # made for log-likelihoods, whose inverses are the weights
    if not np.isfinite(shape) or not np.isfinite(smoothed).all():
        return log_weights, math.nan
    # smoothing also changes the unit: a weight below the tail, which has at most 3√n of them, tells
    # by how much
    below = np.argsort(given)[len(given) - math.ceil(3 * math.sqrt(len(given))) - 1]
    found = log_weights.copy()
    found[inside] = smoothed - smoothed[below] + given[below]
    return found, float(shape)


def _tied(values: np.ndarray) -> np.ndarray:
    """Values that differ by rounding alone made equal: what splits them is no tail of a law."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.append(True, np.diff(ordered) > ROUNDING * np.maximum(np.abs(ordered[1:]), 1.0))
    tied = np.empty_like(values)
    tied[order] = ordered[starts][np.cumsum(starts) - 1]
    return tied


def too_heavy(shape: float, count: int) -> bool:
    """Whether k̂ is beyond what `count` weights can bear."""
    return bool(shape > min(1 - 1 / math.log10(max(count, 11)), HEAVY))


def mean_of(log_weights: np.ndarray) -> tuple[float, float]:
    """log of the mean weight, and its standard error sd(w) / (√n mean(w))."""
    count = len(log_weights)
    value = float(logsumexp(log_weights) - math.log(count))
    if not math.isfinite(value):
        return value, math.nan
    scaled = np.exp(log_weights - value)
    return value, float(scaled.std(ddof=1) / math.sqrt(count))


__all__ = ["HEAVY", "mean_of", "pareto_smoothed", "too_heavy"]
