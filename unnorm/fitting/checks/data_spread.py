"""Data without spread: rows that are equal in a variable, or in a linear combination of continuous
columns.

A density on R^d gives such rows a likelihood without bound, and a score that nothing holds in
place.
"""

from dataclasses import dataclass

import numpy as np

from unnorm.core.findings import Finding, FindingCode, join_names
from unnorm.declaration.density import Density


@dataclass(frozen=True)
class SpreadOptions:
    """When columns count as constant or collinear."""

    # Spread over a column's size, below which it is rounding.
    rounding: float = 1e-12
    # Looked at first.
    rows_per_column: int = 10
    max_columns: int = 500
    # Smallest singular value of the standardised columns, relative to the largest.
    singular: float = 1e-9


SPREAD = SpreadOptions()


def without_spread(p: Density, events: dict, smoothed: bool) -> list[Finding]:
    """Findings for continuous columns that are equal in all rows, or that others (and covariates)
    determine exactly.

    Noise that an objective adds to the data (`smoothed`) gives spread to some such columns, but not
    to one point.
    """
    names, columns = _columns(p, events, p.variables)
    given = _columns(p, events, p.covariates)[1]
    complete = ~np.isnan(columns).any(1)
    if not complete.all():
        if complete.sum() <= SPREAD.rows_per_column * len(names):
            return []  # so few rows may be equal in a column by chance
        columns, given = columns[complete], given[complete]
    rows = len(columns)
    if rows < 2 or not names:
        return []
    still = _is_still(columns)
    if smoothed and not still.all():
        return []
    if still.any():
        verb = "is" if still.sum() == 1 else "are"
        words = f"{join_names(list(np.array(names)[still]))} {verb} equal in all {rows} rows"
        return [_finding(words)]
    given = given[:, ~_is_still(given)]
    size = len(names) + given.shape[1]
    if not 2 <= size <= SPREAD.max_columns or rows <= size + 1:
        return []  # so few rows always lie in a plane
    axis = _still_axis(
        columns,
        given,
        np.unique(np.linspace(0, rows - 1, SPREAD.rows_per_column * size).astype(int)),
    )
    if axis is None or (
        rows > SPREAD.rows_per_column * size
        and _still_axis(columns[:, axis != 0], given, slice(None)) is None
    ):
        return []
    inside = axis != 0
    others = f" and {', '.join(p.covariates)}" if given.shape[1] else ""
    return [
        _finding(
            f"a linear combination of {join_names(list(np.array(names)[inside]))}{others} is equal "
            "in all rows"
        )
    ]


def _still_axis(columns: np.ndarray, given: np.ndarray, rows) -> np.ndarray | None:
    """The combination of columns that is equal in these rows, given other columns; None where all
    combinations vary.
    """
    if _is_still(columns[rows]).any() or _is_still(given[rows]).any():
        return None
    parts = _standardised(columns[rows])
    if given.shape[1]:
        left, singular, _ = np.linalg.svd(_standardised(given[rows]), full_matrices=False)
        basis = left[:, singular > SPREAD.singular * singular[0]]
        parts = parts - basis @ (basis.T @ parts)
    _, values, axes = np.linalg.svd(parts, full_matrices=False)
    if values[-1] > SPREAD.singular * np.sqrt(len(parts)):
        return None
    return np.where(np.abs(axes[-1]) > 1e-6, axes[-1], 0.0)


def _finding(what: str) -> Finding:
    return Finding(
        f"{what}: a density has no bound on such data, and nothing that is estimated of it means "
        "anything",
        "drop the column, or restore the spread that rounding or a constant removed",
        code=FindingCode.NOT_IDENTIFIED,
    )


def _columns(p: Density, events: dict, declared) -> tuple[list[str], np.ndarray]:
    """The entries of the continuous variables (of a simplex all but the last) or of covariates, as
    columns.
    """
    names, parts = [], []
    for name, support in declared.items():
        if name not in events or getattr(support, "discrete", False):
            continue
        value = np.asarray(events[name], float)
        if getattr(support, "score_matching", None) == "simplex":
            value = value[..., :-1]
        for place in np.ndindex(value.shape[1:]):
            names.append(f"{name}[{','.join(map(str, place))}]" if place else name)
        parts.append(value.reshape(len(value), -1))
    rows = len(next(iter(events.values())))
    return names, np.concatenate(parts, 1) if parts else np.zeros((rows, 0))


def _is_still(columns: np.ndarray) -> np.ndarray:
    return np.ptp(columns, axis=0) <= SPREAD.rounding * np.abs(columns).max(0, initial=0.0)


def _standardised(columns: np.ndarray) -> np.ndarray:
    centred = columns - columns.mean(0)
    return centred / np.sqrt((centred**2).mean(0))
