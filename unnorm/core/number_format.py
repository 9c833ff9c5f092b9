"""Numbers as a reader wants them: as many digits as they carry."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

COUNTS = ("ess_bulk", "ess_tail")


def formatted(table: "pd.DataFrame", digits: int = 3) -> "pd.DataFrame":
    """Return the table as strings: four digits for R-hat, whole effective sample sizes, aligned
    decimals elsewhere.

    Args:
        table: any DataFrame; its index and its columns stay.
        digits: significant digits of a column's typical entry.

    Returns:
        A DataFrame of strings; a missing number is an en dash.
    """
    out = table.astype(object).copy()
    for place, name in enumerate(table.columns):
        out.isetitem(place, _column(table.iloc[:, place], str(name), digits))
    return out


def _column(values: "pd.Series", name: str, digits: int) -> list[str]:
    if values.dtype.kind not in "fiu":
        return ["–" if value is None or value != value else str(value) for value in values]
    array = values.to_numpy()
    if name in COUNTS or array.dtype.kind in "iu":
        return [f"{value:,.0f}" if np.isfinite(value) else _odd(value) for value in array]
    places = 3 if name == "r_hat" else _decimals(array, digits)
    if places is None:
        return [f"{value:.{digits - 1}e}" if np.isfinite(value) else _odd(value) for value in array]
    return [f"{value:,.{places}f}" if np.isfinite(value) else _odd(value) for value in array]


def _odd(value: float) -> str:
    return "–" if np.isnan(value) else str(value)


def _decimals(array: np.ndarray, digits: int) -> int | None:
    """Decimals that show most entries to so many digits; None where only powers of ten do."""
    sizes = np.abs(array[np.isfinite(array) & (array != 0)])
    if not len(sizes):
        return digits - 1
    typical, small = np.floor(np.log10(np.quantile(sizes, [0.5, 0.1])))
    if typical < -5 or typical > 9:
        return None
    return int(
        max(digits - 1 - max(small, typical - 1), 0)
    )  # small entries get one more decimal, not all they want
