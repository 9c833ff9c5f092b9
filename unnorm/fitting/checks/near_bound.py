"""Positive parameters whose estimate is not far from 0 in standard errors: the interval on the log
scale excludes 0 and much of what the data allow.
"""

from dataclasses import dataclass

import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode, join_names
from unnorm.fitting.loss import Loss
from unnorm.supports.continuous import PositiveSupport


@dataclass(frozen=True)
class BoundCriteria:
    """How far from its bound an estimate must be, in standard errors.

    The concentration of 100 von Mises draws with kappa = .02 had estimates of .5 to 2 standard
    errors, and intervals of 95% that covered .36.

    Attributes:
        warning: a warning below it.
        error: an error below it.
    """

    warning: float = 2.0
    error: float = 1.0


def near_bound_findings(
    loss: Loss, covariance: np.ndarray, criteria: BoundCriteria = BoundCriteria()
) -> list[Finding]:
    """Return a finding that names the positive parameters near 0.

    Args:
        loss: at its minimum.
        covariance: of all that is estimated, in unconstrained coordinates: u = log x, so that
            sd(u) is the standard error relative to the estimate.
        criteria: the limits.

    References:
        Self and Liang (1987), doi:10.1080/01621459.1987.10478472 (estimates near a bound).
    """
    with np.errstate(all="ignore"):
        away = 1 / np.sqrt(np.diag(covariance))
    supports, near = loss.density.supports, []
    for place, name in enumerate(loss.coordinate_names()):
        support = supports.get(name.partition("[")[0])
        if isinstance(support, PositiveSupport) and away[place] < criteria.warning:
            near.append((away[place], name))
    if not near:
        return []
    closest, names = min(near)[0], [name for _, name in near]
    what = (
        f"{join_names(names)} {'is' if len(names) == 1 else 'are'} within {closest:.1f} standard "
        "errors of the bound at 0, where an interval on the log scale excludes what the data allow"
    )
    advice = "take the interval from fit.profile(), or compare with the fit without it"
    severity = ERROR if closest < criteria.error else WARNING
    return [Finding(what, advice, severity, FindingCode.NEAR_BOUND)]


__all__ = ["BoundCriteria", "near_bound_findings"]
