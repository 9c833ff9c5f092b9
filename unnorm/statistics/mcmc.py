"""R-hat and effective sample sizes of one quantity along chains."""

import numpy as np


def r_hat(values: np.ndarray) -> float:
    """Rank-normalized split R-hat of values (chains, draws); NaN where they do not move.

    References:
        Vehtari et al. (2021), arXiv:1903.08008.
    """
    from arviz_stats.base import array_stats

    return float(array_stats.rhat(values, chain_axis=0, draw_axis=1))


def effective_size(values: np.ndarray, method: str = "bulk") -> float:
    """How many independent draws the values (chains, draws) are worth, for their "bulk" or their
    "mean".
    """
    from arviz_stats.base import array_stats

    return float(array_stats.ess(values, chain_axis=0, draw_axis=1, method=method))


__all__ = ["effective_size", "r_hat"]
