"""Pareto-smoothed importance weights, whether the shape of their tail permits a mean, and the
balance of the weights of two samples.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logsumexp


def pareto_smooth(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Log weights with the largest replaced by quantiles of a generalized Pareto distribution, and
    its shape k̂.

    Weights have 1/k finite moments. If k̂ exceeds min(1 − 1/log₁₀ n, 0.7), n weights are too few to
    estimate their mean.

    Args:
        log_weights: (n,), −inf for points outside the density.

    Returns:
        The log weights on their original scale, and k̂ (NaN if all weights are equal or none is
        positive).

    Example:
        >>> import numpy as np
        >>> weights, shape = pareto_smooth(np.random.default_rng(0).normal(size=1000))
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
    given = _merge_ties(log_weights[inside])
    tail = np.sort(given)[-math.ceil(min(0.2 * len(given), 3 * math.sqrt(len(given)))) :]
    if tail[0] == tail[-1]:  # the heaviest weights of a few states, drawn many times
        return log_weights, math.nan
    # psislw takes log-likelihoods, whose inverses are the weights; ties in the tail make k̂ NaN
    with np.errstate(all="ignore"):
        smoothed, shape = array_stats.psislw(-given)
    if not np.isfinite(shape) or not np.isfinite(smoothed).all():
        return log_weights, math.nan
    # smoothing also rescales the weights: one below the tail (at most 3√n) shows the factor
    below = np.argsort(given)[len(given) - math.ceil(3 * math.sqrt(len(given))) - 1]
    found = log_weights.copy()
    found[inside] = smoothed - smoothed[below] + given[below]
    return found, float(shape)


def _merge_ties(values: np.ndarray, *, rounding: float = 1e-12) -> np.ndarray:
    """Values with differences due to rounding made equal, so that they do not look like a tail."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.append(True, np.diff(ordered) > rounding * np.maximum(np.abs(ordered[1:]), 1.0))
    tied = np.empty_like(values)
    tied[order] = ordered[starts][np.cumsum(starts) - 1]
    return tied


def too_heavy(shape: float, count: int, *, max_shape: float = 0.7) -> bool:
    """Whether k̂ is too large for the mean of `count` weights to be trusted."""
    return bool(shape > min(1 - 1 / math.log10(max(count, 11)), max_shape))


def mean_of(log_weights: np.ndarray) -> tuple[float, float]:
    """log of the mean weight, and its standard error sd(w) / (√n mean(w))."""
    count = len(log_weights)
    value = float(logsumexp(log_weights) - math.log(count))
    if not math.isfinite(value):
        return value, math.nan
    scaled = np.exp(log_weights - value)
    return value, float(scaled.std(ddof=1) / math.sqrt(count))


def balance(forward: np.ndarray, reverse: np.ndarray, max_iterations: int = 10_000) -> float:
    """The root c of Σ σ(a_i − c − m) = Σ σ(c + m − b_j); works of lost particles reach to −1e30."""
    ratio = math.log(len(forward) / len(reverse))

    def imbalance(c):
        return expit(forward - c - ratio).sum() - expit(c + ratio - reverse).sum()

    ends = (
        min(forward.min(), reverse.min()) - 50 - abs(ratio),
        max(forward.max(), reverse.max()) + 50 + abs(ratio),
    )
    return float(brentq(imbalance, *ends, xtol=1e-10, maxiter=max_iterations))


__all__ = ["balance", "mean_of", "pareto_smooth", "too_heavy"]
