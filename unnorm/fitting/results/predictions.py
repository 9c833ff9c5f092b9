"""What a fit predicts of rows: means, intervals, and residuals."""

from typing import Any

import numpy as np
import pandas as pd

from unnorm.core.findings import FindingCode
from unnorm.core.messages import RowLabels
from unnorm.fitting.data.columns import row_index
from unnorm.fitting.data.read import read_covariates, read_data, refuse_missing_entries
from unnorm.fitting.inference.intervals import from_unbounded, interval, to_unbounded
from unnorm.fitting.inference.predictive import Table, table_of_fit


def predict(fit: Any, data: Any, level: float) -> pd.DataFrame:
    """Means and quantiles of the response at covariates; probabilities where it is a category."""
    p = fit.density
    if not p.covariates:
        raise ValueError(
            f"predict was asked of {p.name}, which has no covariates; it must have some; use "
            "un.simulate for draws, and fit.density for the density."
        )
    name, index = _response(fit), row_index(data)
    support = p.variables[name]
    table = table_of_fit(fit, read_covariates(p, data), name, slope=True)
    if getattr(support, "categories", None):
        values = [f"{name}={code:g}" for code in table.values[0]]
        return pd.DataFrame(table.mass, index, values)
    covariance = fit._free_covariance
    if covariance is None:
        errors = np.full(len(table.mean), np.nan)
    else:
        assert table.slope is not None
        errors = np.sqrt(np.einsum("ip,pq,iq->i", table.slope, covariance, table.slope))
    errors = np.where(np.isnan(table.mean), np.nan, errors)  # a mean that does not exist
    bounds = support.entry_bounds(())
    if support.states is not None:
        bounds = (min(support.states), max(support.states))
    listed = zip(table.mean, errors, strict=True)
    ends = np.array([interval(mean, se, bounds, level, fit._degrees) for mean, se in listed])
    tail = (1 - level) / 2
    columns = {
        "mean": table.mean,
        "standard_error": errors,
        "lower": ends[:, 0],
        "upper": ends[:, 1],
        "predictive_lower": _widen(table, tail, ends[:, 0], bounds),
        "predictive_upper": _widen(table, 1 - tail, ends[:, 1], bounds),
    }
    return pd.DataFrame(columns, index)


def _widen(
    table: Table, share: float, mean_end: np.ndarray, bounds: tuple[float, float]
) -> np.ndarray:
    """The quantiles of the response, farther from the mean by what is not known of the mean.

    Both distances are added in squares, on the scale without bounds: for a normal response as in
    least squares.
    """
    quantile = table.quantile(share)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean, at, end = (to_unbounded(x, bounds) for x in (table.mean, quantile, mean_end))
        reach = np.copysign(np.hypot(at - mean, end - mean), share - 0.5)
        found = from_unbounded(mean + reach, bounds)
    found = np.rint(found) if table.discrete else found
    return np.where(np.isnan(found), quantile, found)


def residuals(fit: Any, data: Any, seed: int) -> pd.Series:
    """Φ⁻¹ of the distribution function at the response, randomised at jumps."""
    from scipy.special import ndtri_exp

    p, events = read_data(fit.density, data)
    name = _response(fit)
    if name not in events:
        raise ValueError(
            f"data has no values for {name}; expected them, because residuals need them; pass "
            "them by name."
        )
    refuse_missing_entries(p.variables, events, "residuals", RowLabels(row_index(data), p.labels))
    given = {other: events[other] for other in p.covariates}
    given = given or {" row": np.zeros(len(events[name]))}
    response = np.asarray(events[name], float)
    table = table_of_fit(fit, given, name, reach=response)
    below, at, above = table.log_shares(response)
    uniform = np.random.default_rng(seed).random(len(below))
    with np.errstate(divide="ignore"):
        lower = np.logaddexp(below, np.log(uniform) + at)
        upper = np.logaddexp(above, np.log1p(-uniform) + at)
    values = np.where(lower < upper, ndtri_exp(lower), -ndtri_exp(upper))
    return pd.Series(values, row_index(data), name="randomised quantile residual")


def _response(fit: Any) -> str:
    """The only variable that the fit's data brought, of a fit that is a density."""
    p = fit.density
    improper = [f.what for f in fit.findings if f.code == FindingCode.NOT_NORMALIZABLE]
    if improper:
        raise ValueError(
            f"The fit cannot be normalized ({improper[0]}); it must have a finite Z; restrict the "
            "parameters, and fit again."
        )
    names = list(p.variables)
    if fit._origin is not None:
        names = [name for name in names if name in fit._origin.problem.events]
    if len(names) != 1:
        raise ValueError(
            f"{p.name} has the responses {', '.join(names)}; it must have one for predictions; "
            "use un.simulate for draws of several."
        )
    return names[0]


__all__ = ["predict", "residuals"]
