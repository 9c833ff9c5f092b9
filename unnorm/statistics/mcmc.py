"""R-hat, effective sample sizes and Monte Carlo errors of quantities along chains.

The limits at which a verdict turns are `ConvergenceCriteria`; each verb states its own instance,
with the reason.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ConvergenceCriteria:
    """When chains count as converged.

    Args:
        max_r_hat: the largest R-hat that passes; NaN never does. The default is that of Vehtari et
            al. (2021) for full runs; R-hat of short runs is noisier and needs a wider limit.
        error_r_hat: R-hat above which a warning becomes an error, where the two differ.
        min_ess_per_chain: effective draws per chain, below which R-hat and ESS are themselves too
            noisy to rely on (Vehtari et al., 2021).
        min_ess: effective draws in all that suffice, however many chains there are.
        min_chains: below, there is no R-hat.
        min_draws: draws per chain, below which nothing can be said.
    """

    max_r_hat: float = 1.01
    error_r_hat: float = 1.01
    min_ess_per_chain: int = 100
    min_ess: int = 400
    min_chains: int = 2
    min_draws: int = 100


def r_hat(values: np.ndarray) -> float:
    """Rank-normalized split R-hat of values (chains, draws); NaN where they are constant.

    References:
        Vehtari et al. (2021), arXiv:1903.08008.
    """
    from arviz_stats.base import array_stats

    return float(array_stats.rhat(values, chain_axis=0, draw_axis=1))


def effective_sample_size(values: np.ndarray, method: str = "bulk") -> float:
    """The effective sample size of values (chains, draws), for their "bulk" or their "mean"."""
    from arviz_stats.base import array_stats

    return float(array_stats.ess(values, chain_axis=0, draw_axis=1, method=method))


def potential_scale_reduction(
    means: np.ndarray, variances: np.ndarray, length: float
) -> np.ndarray:
    """R-hat without ranks, from the means and variances (chains, ...) of chains of equal length.

    √((n − 1)/n + B/W), B the variance of the means and W the mean of the variances.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, ch. 11.
    """
    within, between = variances.mean(0), means.var(0, ddof=1)
    with np.errstate(all="ignore"):
        return np.sqrt((length - 1) / length + between / within)


def split_r_hat(values: np.ndarray) -> float:
    """R-hat without ranks of the halves of (chains, draws): for short runs; 1 if nothing varies."""
    length = values.shape[1] // 2
    halves = np.concatenate([values[:, :length], values[:, length : 2 * length]])
    means, variances = halves.mean(1), halves.var(1, ddof=1)
    if variances.mean() + means.var(ddof=1) <= 1e-20 * (1 + np.mean(values**2)):
        return 1.0
    if not variances.mean() > 0:
        return float("inf")
    return float(potential_scale_reduction(means, variances, length))


__all__ = [
    "ConvergenceCriteria",
    "effective_sample_size",
    "potential_scale_reduction",
    "r_hat",
    "split_r_hat",
]
