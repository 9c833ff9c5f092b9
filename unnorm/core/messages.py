"""Phrases that messages share, and numbers as results print them: as many digits as they carry."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def choose_from(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? Known: ..." for a name that is not among the known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known) if known else 'none'}"


def pluralize(count: int, noun: str) -> str:
    """Return "1 row", "1,200 rows" or "2 axes"."""
    plural = "axes" if noun == "axis" else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def significant(value: Any, digits: int = 4) -> str:
    """Return a number with at least these significant digits, and as many decimals where it is of
    order 1.
    """
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value) or value == 0:
        return "–" if math.isnan(value) else f"{value:.0f}"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent >= 7:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{digits if exponent >= -1 else digits - 1 - exponent}f}"


def table_text(table: Any, noun: str = "row", most: int = 30) -> str:
    """Return a DataFrame as text, with significant digits and at most this many rows."""
    shown = table.head(most).map(significant).to_string()
    left = len(table) - most
    return shown if left <= 0 else f"{shown}\n... and {pluralize(left, f'more {noun}')}"


def join_names(names: Iterable[str], most: int = 4) -> str:
    """Return "a, b and 3 more"."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def shown(value: object, most: int = 60) -> str:
    """The value as one short line of a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: object) -> str:
    """The text with question marks for lone surrogates, which no file and no font can hold."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def format_table(table: "pd.DataFrame", digits: int = 3) -> "pd.DataFrame":
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
        missing = values.isna()
        return ["–" if gone else str(value) for value, gone in zip(values, missing, strict=True)]
    array = values.to_numpy()
    if name in ("ess_bulk", "ess_tail") or array.dtype.kind in "iu":
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


# -- where a fault lies in the data, in the user's own labels --------------------------------------
def row_text(row: int, index: Any = None, count: int = 1) -> str:
    """The row of the first fault by its number, by its label where that is another, and how many
    faults there are.
    """
    label = None if index is None or row >= len(index) else index[row]
    label = label.item() if isinstance(label, np.generic) else label
    notes = [] if label is None or label == row else [f"index {label!r}"]
    notes += [f"the first of {count:,}"] if count > 1 else []
    return f"row {row} ({', '.join(notes)})" if notes else f"row {row}"


class RowLabels(NamedTuple):
    """The labels of the data: of the rows, and of the dimensions of an event by their names."""

    index: Any = None
    labels: Mapping[str, Sequence] = {}

    def entry(self, name: str, where: Sequence[int], axes: Sequence[Any]) -> str:
        """The entry of a place (row, ...): "x[age]", "x[1]", and "x" of a scalar."""
        named = [*axes, *[None] * len(where)]
        inside = [
            str(self.labels[axis][i]) if axis in self.labels else str(int(i))
            for i, axis in zip(where[1:], named, strict=False)
        ]
        return f"{name}[{', '.join(inside)}]" if inside else name

    def row(self, number: Any, count: int = 1) -> str:
        """The row in words, and how many faults there are."""
        return row_text(int(number), self.index, count)
