"""The table of a fit for people: digits by the standard errors, names in words, LaTeX and CSV."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unnorm.core.display import row_label
from unnorm.core.messages import printable
from unnorm.sampling.output.atomic_files import disk_errors, write

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
}


def decimals(table: pd.DataFrame, digits: int = 2) -> int | None:
    """Decimals that show the typical standard error to so many significant digits, or the typical
    estimate to two more where there is none; None where only powers of ten do.
    """
    errors = _sizes(table.get("standard_error", pd.Series(dtype=float)))
    sizes = errors if len(errors) else _sizes(table["estimate"])
    digits = digits if len(errors) else digits + 2
    if not len(sizes):
        return digits
    typical, small = np.floor(np.log10(np.quantile(sizes, [0.5, 0.1])))
    largest = np.log10(max([*_sizes(table["estimate"]), *sizes]))
    found = digits - 1 - max(small, typical - 1)
    return None if found > 7 or largest > 9 else int(max(found, 0))


def _sizes(values: pd.Series) -> np.ndarray:
    array = np.abs(values.to_numpy(float))
    return array[np.isfinite(array) & (array > 0)]


def number(value: float, places: int | None, digits: int = 2) -> str:
    """A number with these decimals, or with so many significant digits as a power of ten."""
    if not np.isfinite(value):
        return "–" if np.isnan(value) else f"{value:.0f}"
    if places is None:
        return f"{value:.{digits}e}"
    text = f"{value:,.{places}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def readable(table: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """A table of estimates as strings, all numbers of a parameter with the same decimals.

    Args:
        table: with the columns estimate and, where they are known, standard_error, lower, upper,
            by parameter; z and p are shown as such.
        digits: significant digits of the standard errors.
    """
    out = table.astype(object).copy()
    names = table.index.get_level_values(0)
    for name in dict.fromkeys(names):
        rows = np.flatnonzero(names == name)
        places = decimals(table.iloc[rows], digits)
        for at, column in enumerate(table.columns):
            out.iloc[rows, at] = [
                _cell(str(column), value, places, digits, small)
                for value, small in zip(
                    table.iloc[rows, at], _small_errors(table.iloc[rows], places), strict=True
                )
            ]
    return out


def _small_errors(table: pd.DataFrame, places: int | None) -> np.ndarray:
    """Whether a row's standard error is unknown, or below what so many decimals show."""
    if "standard_error" not in table:
        return np.ones(len(table), bool)
    errors = table["standard_error"].to_numpy(float)
    return np.isnan(errors) | (errors < 0.5 * 10.0 ** -(0 if places is None else places))


def _cell(column: str, value: float, places: int | None, digits: int, small_error: bool) -> str:
    """A number as text; an estimate is no zero where its standard error does not make it one."""
    if column == "z":
        return number(value, 2)
    if column == "p":
        return "< .001" if value < 0.001 else number(value, 3)
    text = number(value, places, digits)
    vanished = value != 0 and not text.strip("-0.,")
    if vanished and column == "standard_error":
        return f"{value:.{digits - 1}e}"
    return f"{value:.{digits + 1}e}" if vanished and small_error else text


def in_words(table: pd.DataFrame, level: float, digits: int = 2) -> pd.DataFrame:
    """The readable table with names in words and the interval in one column."""
    shown = readable(table, digits)
    columns = {"Estimate": shown["estimate"]}
    if "standard_error" in table:
        columns["Standard error"] = shown["standard_error"]
    if "lower" in table:
        ends = zip(shown["lower"], shown["upper"], strict=True)
        columns[interval_name(level)] = [
            "–" if low == high == "–" else f"{low} to {high}" for low, high in ends
        ]
    columns |= {name: shown[name] for name in ("z", "p") if name in table}
    return pd.DataFrame(columns, index=table.index)


def interval_name(level: float) -> str:
    """The name of the column of intervals."""
    return f"{100 * level:g}% interval"


def with_names(table: pd.DataFrame, names: Mapping[str, str] | None) -> pd.DataFrame:
    """The table with these names of the parameters."""
    if not names:
        return table
    known = set(table.index.get_level_values(0))
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise ValueError(
            f"names holds {unknown!r}; it must hold parameters of the fit; choose from "
            f"{', '.join(map(str, known))}."
        )
    keys = [(names.get(key[0], key[0]), *key[1:]) for key in table.index]
    return table.set_axis(pd.MultiIndex.from_tuples(keys, names=table.index.names))


def latex(table: pd.DataFrame) -> str:
    """A DataFrame of strings as a booktabs tabular in which every character stands for itself."""
    lines = [["", *table.columns]] + [
        [row_label(label), *row] for label, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    head, *rows = [" & ".join(map(escape_latex, line)) + r" \\" for line in lines]
    columns = "l" + "r" * table.shape[1]
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *rows]
        + [r"\bottomrule", r"\end{tabular}", ""]
    )


def escape_latex(value: Any) -> str:
    """Text in LaTeX, in which nothing is a command; a minus is a minus."""
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", printable(value))
    text = re.sub(r"(?<!\S)-(?=[\d.]|inf\b)", "−", text)
    return "".join(LATEX.get(mark, mark) for mark in text)


def csv(table: pd.DataFrame, level: float) -> str:
    """The table in full precision as CSV, with names in words."""
    ends = {
        "lower": f"Lower end of {interval_name(level)}",
        "upper": f"Upper end of {interval_name(level)}",
    }
    words = {"estimate": "Estimate", "standard_error": "Standard error", **ends}
    named = table.rename(columns=words).rename_axis(["Parameter", *table.index.names[1:]])
    return printable(named.to_csv())


def write_text(text: str, path: str | Path) -> Path:
    """Write a file in UTF-8, whole or not at all."""
    path = Path(path)
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ValueError(
            f"path is {path}; it must be a file in an existing folder; create the folder first."
        )
    with disk_errors(f"path {path}"):
        write(path, text.encode("utf-8"))
    return path
