"""How far the robust covariance of a likelihood's estimates is from the model's own.

Where the model does not hold, 2 (ℓ̂_large − ℓ̂_small) is distributed as Σ λ_i χ²₁, with λ the
eigenvalues of V M⁻¹: V the robust covariance of the tested entries, M that of the model. Its mean
and variance are those of a χ² with d = (Σ λ)² / Σ λ² degrees of freedom times Σ λ² / Σ λ.

References: Kent (1982), doi:10.1093/biomet/69.1.19; Satterthwaite (1946), doi:10.2307/3002019.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2


@dataclass(frozen=True)
class VarianceOptions:
    """When the two covariances count as different.

    Attributes:
        ratio: of the variances. A test at 5% of a true hypothesis rejects 9% at 1.3.
        errors: standard errors of the ratio's logarithm, √(8/n) for normal residuals times a normal
            covariate.
    """

    ratio: float = 1.3
    errors: float = 3.0


def variance_ratios(robust: np.ndarray, modelled: np.ndarray) -> np.ndarray | None:
    """λ; None where a covariance is singular or not finite."""
    with np.errstate(all="ignore"):
        scale = np.sqrt(np.diagonal(modelled))
        robust, modelled = (matrix / np.outer(scale, scale) for matrix in (robust, modelled))
        if not (np.isfinite(robust).all() and np.linalg.cond(modelled) < 1e12):
            return None
    found = np.linalg.eigvals(np.linalg.solve(modelled, robust)).real
    return found if (found > 0).all() else None


def is_off(ratios: np.ndarray, rows: int, options: VarianceOptions = VarianceOptions()) -> bool:
    """Whether the ratios differ from 1 by more than chance gives, and by enough to matter."""
    least = max(np.log(options.ratio), options.errors * np.sqrt(8 / rows))
    return bool(np.abs(np.log(ratios)).max() > least)


def robust_p(statistic: float, ratios: np.ndarray) -> float:
    """The probability of a likelihood ratio at least so large under the small model."""
    scale = (ratios**2).sum() / ratios.sum()
    return float(chi2.sf(max(statistic, 0.0) / scale, ratios.sum() / scale))


__all__ = ["is_off", "robust_p", "variance_ratios"]
