"""Differences of sums over the same rows, and where two criteria disagree."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from unnorm.core.findings import WARNING, Finding, FindingCode


@dataclass(frozen=True)
class DifferenceOptions:
    """When a difference is one.

    Attributes:
        clear: standard errors of the difference that it must exceed: by chance once in twenty.
    """

    clear: float = 2.0


DEFAULTS = DifferenceOptions()


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Of two sums over the same rows, and its standard error."""
    each = one - other
    error = float(np.sqrt(len(each)) * each.std(ddof=1)) if len(each) > 1 else np.nan
    return float(each.sum()), error


def differences(name: str, pointwise: dict[str, Any], noise: pd.Series, best) -> pd.DataFrame:
    """The differences of sums to the best one, with their errors; NaN for what has no value."""
    known = {fit: values for fit, values in pointwise.items() if np.ndim(values)}
    out = pd.DataFrame(
        np.nan, index=noise.index, columns=[f"{name}_difference", f"{name}_difference_error"]
    )
    if known:
        first = list(known)[int(best([values.sum() for values in known.values()]))]
        for fit, values in known.items():
            value, error = difference(values, known[first])
            out.loc[fit] = (
                (0.0, 0.0)
                if fit == first
                else (value, float(np.hypot(error, np.hypot(*noise[[fit, first]]))))
            )
    return out


def blind_spots(table: pd.DataFrame, h_scores: dict[str, np.ndarray]) -> list[Finding]:
    """Where the likelihood clearly prefers its best fit to one that the H-score finds as good, or
    better.
    """
    if table["log_likelihood"].isna().all():
        return []
    first, notes = table["log_likelihood"].idxmax(), []
    for name, row in table.iterrows():
        gap, error = -row["log_likelihood_difference"], row["log_likelihood_difference_error"]
        if name == first or not {name, first} <= set(h_scores) or not gap > DEFAULTS.clear * error:
            continue
        away, spread = difference(h_scores[name], h_scores[first])
        if away > DEFAULTS.clear * spread:
            continue
        verdict = "calls the two alike" if away >= -DEFAULTS.clear * spread else f"prefers {name!r}"
        what = (
            f"the log-likelihood prefers {first!r} to {name!r} by {gap:.4g} (standard error "
            f"{error:.2g}), and the H-score {verdict} (difference {away:.4g}, standard error "
            f"{spread:.2g}): score matching cannot see the weights of separated modes, and has "
            "less power elsewhere"
        )
        advice = (
            "believe the log-likelihood, and compare the modes' shares in un.simulate with those "
            "in the data"
        )
        notes.append(Finding(what, advice, WARNING, code=FindingCode.CRITERIA_DISAGREE))
    return notes
