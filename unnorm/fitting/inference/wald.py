"""Wald tests of single entries."""

import numpy as np
import pandas as pd
from scipy.stats import t as student

from unnorm.core.messages import join_names


def wald(fit) -> pd.DataFrame:
    """The table of `Fit.wald`."""
    _refuse(fit)
    table = fit.summary()[["estimate", "standard_error"]]
    inside = np.array([low < 0 < high for low, high in fit._bounds()])
    with np.errstate(all="ignore"):
        z = np.where(inside, table["estimate"] / table["standard_error"], np.nan)
    z = np.where(table["standard_error"] > 0, z, np.nan)
    return table.assign(z=z, p=2 * student.sf(np.abs(z), fit._degrees))


def _refuse(fit) -> None:
    """Raise where z and p would not mean what they say."""
    why = None
    if fit._penalized:
        why = "a penalty or a prior shrinks its estimates; use the fit without it"
    elif not fit.passed:
        codes = join_names(f.code for f in fit.findings if f.severity == "error")
        why = f"the fit did not pass ({codes or 'not converged'}); read fit.findings"
    elif fit._covariance is None:
        why = "it has no standard errors; read fit.findings for the reason"
    if why:
        raise ValueError(
            f"wald was asked of a fit by {fit.objective}, whose standard errors must be reliable: "
            f"{why}."
        )
