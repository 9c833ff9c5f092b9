"""The few phrases that messages share, and numbers as results print them."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

MOST_ROWS = 30  # of a printed table
_DIGITS = 4  # significant ones of a printed number


def choose_from(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? Known: ..." for a name that is not among the known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known) if known else 'none'}"


def counted(count: int, noun: str) -> str:
    """Return "1 row" or "1,200 rows"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def significant(value: Any) -> str:
    """Return a number with at least four significant digits, and at least four decimals where it is
    of order 1.
    """
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value) or value == 0:
        return "–" if math.isnan(value) else f"{value:.0f}"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent >= 7:
        return f"{value:.{_DIGITS - 1}e}"
    return f"{value:.{_DIGITS if exponent >= -1 else _DIGITS - 1 - exponent}f}"


def printed(table: Any, noun: str = "row") -> str:
    """Return a DataFrame as text, with significant digits and no more than MOST_ROWS rows."""
    shown = table.head(MOST_ROWS).map(significant).to_string()
    left = len(table) - MOST_ROWS
    return shown if left <= 0 else f"{shown}\n... and {counted(left, f'more {noun}')}"


def listed(names: Iterable[str], most: int = 4) -> str:
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
