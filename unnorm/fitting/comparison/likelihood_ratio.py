"""Likelihood-ratio tests of nested fits.

Λ = 2 (ℓ̂_large − ℓ̂_small) is χ² with k degrees of freedom under the small model, k the number of
parameters that it fixes (Wilks 1938, doi:10.1214/aoms/1177732360), where these lie inside their
supports and the large model is identified there. At a boundary it is not (Self and Liang 1987,
doi:10.1080/01621459.1987.10478472). Where the large model does not hold either, Λ has another
distribution (`unnorm.statistics.model_variance`): a warning gives the p of that.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode, join_names
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.inference.information_criteria import free_parameters, same_scale
from unnorm.statistics.model_variance import is_off, robust_p, variance_ratios

COLUMNS = ["likelihood_ratio", "degrees_of_freedom", "p"]


@dataclass(frozen=True)
class RatioOptions:
    """Attributes:
    rounding: of a log-likelihood, relative; a ratio further below zero shows a maximum missed.
    """

    rounding: float = 1e-6


DEFAULTS = RatioOptions()


def likelihood_ratios(fits: Mapping[str, Any], findings: list[Finding]) -> pd.DataFrame:
    """A row for each pair (small, large) of nested fits that passed, by maximum likelihood with an
    exact log Z, of one density on the same rows, the smaller with `p.fix(...)`.
    """
    rows = {}
    known = {name: fit for name, fit in fits.items() if _serves(fit)}
    for (a, one), (b, other) in itertools.permutations(known.items(), 2):
        if is_nested(one, other):
            rows[a, b] = _ratio(a, b, one, other, findings)
    index = pd.MultiIndex.from_tuples(list(rows), names=["small", "large"]) if rows else None
    return pd.DataFrame(list(rows.values()), index, columns=COLUMNS)


def _serves(fit: Any) -> bool:
    """Whether the likelihood of a fit is at hand, and its rows are independent."""
    if fit._log_likelihood is None or fit._origin is None or not fit.passed:
        return False
    return fit._origin.problem.clusters is None and fit.rows > 1


def is_nested(small: Any, large: Any) -> bool:
    """Whether one fit is the other with some parameters fixed, on the same rows."""
    p, q = small.density, large.density
    fixed = set(q.supports) - set(p.supports)
    if p.function is None or p.function is not q.function or not set(p.supports) < set(q.supports):
        return False
    if not fixed <= set(p.constants) or any(p.supports[n] != q.supports[n] for n in p.supports):
        return False
    same = all(
        np.array_equal(value, q.constants[name])
        for name, value in p.constants.items()
        if name not in fixed and name in q.constants
    )
    return same and same_scale(small, large)


def _ratio(a: str, b: str, small: Any, large: Any, findings: list[Finding]) -> dict[str, float]:
    value = 2 * (large._log_likelihood - small._log_likelihood)
    degrees = free_parameters(large.density) - free_parameters(small.density)
    why = _irregular(small, large)
    if value < -DEFAULTS.rounding * (1 + abs(large._log_likelihood)):
        findings.append(
            Finding(
                f"the likelihood of {b!r} is lower than that of {a!r}, which is nested in it",
                f"fit {b!r} again with restarts=10: it is not at its highest maximum",
                ERROR,
                code=FindingCode.SEVERAL_OPTIMA,
            )
        )
        why = why or "no maximum"
    elif why:
        findings.append(
            Finding(
                f"the likelihood ratio of {a!r} and {b!r} is not χ² distributed: {why}",
                "simulate its distribution under the smaller fit by un.simulate",
                WARNING,
                code=FindingCode.OBJECTIVE_CONDITIONS,
            )
        )
    p = np.nan if why else float(chi2.sf(max(value, 0.0), degrees))
    findings += [] if why else _of_model(a, b, small, large, value)
    return dict(zip(COLUMNS, (value, degrees, p), strict=True))


def _of_model(a: str, b: str, small: Any, large: Any, value: float) -> list[Finding]:
    """The robust p, where the larger model's variances are not those of its scores."""
    fixed = set(large.density.supports) - set(small.density.supports)
    places = np.flatnonzero(large._index().get_level_values(0).isin(fixed))
    covariance = large._covariance
    if covariance is None or not len(places):
        return []
    block = np.ix_(places, places)
    ratios = variance_ratios(covariance.total[block], covariance.inverse_curvature[block])
    if ratios is None or not is_off(ratios, large.rows):
        return []
    what = (
        f"the likelihood ratio of {a!r} and {b!r} supposes that {b!r} is true, and the robust "
        f"variance of {join_names(sorted(fixed))} is {ratios.mean():.2g} times that of the model: "
        f"allowing for it, p = {robust_p(value, ratios):.2g}"
    )
    advice = "use that p, or fit.wald, whose errors are robust"
    return [Finding(what, advice, WARNING, code=FindingCode.OBJECTIVE_CONDITIONS)]


def _irregular(small: Any, large: Any) -> str | None:
    """Why χ² does not hold, or None."""
    latent = latent_variables(large.density.variables, large._origin.problem.events)
    if latent:
        return f"{latent[0]} is latent, and parameters may vanish from the smaller model"
    for name in sorted(set(large.density.supports) - set(small.density.supports)):
        support, value = large.density.supports[name], np.asarray(small.density.constants[name])
        for place in support.entries(value.shape):
            if not _inside(float(value[place]), support.entry_bounds(place)):
                return f"{name} is fixed at a bound of its support"
    return None


def _inside(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] < value < bounds[1]
