"""Weights and clusters of rows: given as values or as a column's name, aligned with the data, and
read.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from unnorm.core.containers import is_series, to_numbers
from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.core.messages import pluralize, row_text
from unnorm.fitting.data.columns import columns_of, row_index


@dataclass(frozen=True)
class EffectiveRowsCriteria:
    """How many rows unequal weights may leave for each parameter.

    Attributes:
        few: below it the sandwich is several per cent too small, which the jackknife of equal
            weights does not mend.
        very_few: below it intervals are rough.
    """

    few: float = 10.0
    very_few: float = 3.0


@dataclass(frozen=True)
class ExpansionOptions:
    """How far frequency weights are expanded.

    Attributes:
        max_rows: after that, which would not fit into memory.
    """

    max_rows: int = 2**31


EXPANSION = ExpansionOptions()


class Rows(NamedTuple):
    """The weights and clusters of the rows, as the user gave them."""

    frequency_weights: Any = None
    sampling_weights: Any = None
    weights: Any = None
    cluster: Any = None

    @property
    def columns(self) -> list[str]:
        """The names of those that were given as columns of the data."""
        return [given for given in self if isinstance(given, str)]


def read_rows(rows: Rows, data: Any, events: dict[str, np.ndarray], findings: list[Finding]) -> Any:
    """Return the events, their sampling weights of mean 1 (or None) and the clusters as numbers
    from 0 (or None).

    A row with the frequency weight k stands for k equal rows, and is repeated.
    """
    count = len(next(iter(events.values())))
    given = {
        n: _column(n, value, data, count)
        for n, value in rows._asdict().items()
        if value is not None
    }
    codes = _codes(given.pop("cluster")) if "cluster" in given else None
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} were given; expected one kind of weights; leave the others "
            "out, or multiply them if a row has both."
        )
    if not given:
        return events, None, codes
    name, values = next(iter(given.items()))
    values = _numbers(name, values)
    if name == "weights":
        name = _deprecated(values, findings)
    if name == "sampling_weights":
        scaled = values.astype(float) / values.max()
        return events, scaled / scaled.mean(), codes
    repeats = _whole(values)
    repeated = {variable: np.repeat(value, repeats, 0) for variable, value in events.items()}
    return repeated, None, None if codes is None else np.repeat(codes, repeats)


def _deprecated(values: np.ndarray, findings: list[Finding]) -> str:
    """The kind of weights that `weights` are by their type, said aloud."""
    whole = values.dtype.kind in "iu"
    name = "frequency_weights" if whole else "sampling_weights"
    why = (
        "integers: so many equal rows" if whole else "floating numbers: rows of unequal probability"
    )
    what, advice = (
        f"weights were read as {name} ({why})",
        f"pass {name}=, or the other kind, in place of weights=",
    )
    warnings.warn(f"`weights` is deprecated: {what}; {advice}.", FutureWarning, stacklevel=6)
    findings.append(Finding(what, advice, WARNING, FindingCode.KIND_OF_WEIGHTS))
    return name


def _column(name: str, given: Any, data: Any, count: int) -> Any:
    """The values, one for each row: a column of the data by its name, or aligned by the index where
    both have one.
    """
    if isinstance(given, str):
        columns = columns_of(data)
        if given not in columns:
            raise ValueError(
                f"{name} is {given!r}, and data has {_as_list(columns)}; expected a column's name "
                "or one value for each row; pass one of the two."
            )
        given = columns[given]
    if np.shape(given) == () or isinstance(given, Mapping):
        raise ValueError(
            f"{name} is {given!r}; expected one value for each of {count} rows, or a column's "
            "name; pass an array of that length."
        )
    given = _in_row_order(name, given, row_index(data))
    if np.shape(given) != (count,):
        raise ValueError(
            f"{name} has the shape {np.shape(given)}; expected one value for each of {count} "
            "rows; align it."
        )
    return given


def _as_list(columns: Mapping) -> str:
    return f"the columns {', '.join(map(str, columns))}" if columns else "no named columns"


def _in_row_order(name: str, given: Any, index: Any) -> Any:
    """The values in the order of the data's rows."""
    own = row_index(given)
    if own is None:
        return given
    if index is None:  # an array's rows are numbered
        shuffled = own.dtype.kind in "iu" and not np.array_equal(own, np.arange(len(own)))
        if shuffled and np.array_equal(np.sort(own), np.arange(len(own))):
            raise ValueError(
                f"{name} has an index that is not in the order of its rows, and data has no "
                "index to align it with; "
                "expected the order of data; sort it by its index, or pass its values alone."
            )
        return given
    if own.equals(index):
        return given
    places = own.get_indexer(index) if own.is_unique else np.array([-1])
    if (places < 0).any():
        missing = (
            "repeated entries"
            if not own.is_unique
            else f"no entry {index[int(np.argmax(places < 0))]!r}"
        )
        raise ValueError(
            f"{name} cannot be aligned with data, because its index has {missing}; expected the "
            "index of data; reindex it, or pass its values alone if they are in the order of "
            "data's rows."
        )
    return given.iloc[places] if is_series(given) else given[places]


def _numbers(name: str, given: Any) -> np.ndarray:
    values = to_numbers(given, name)
    if values.dtype.kind == "b":
        raise ValueError(
            f"{name} holds True and False; expected numbers; select the rows before the fit."
        )
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        at = row_text(row, row_index(given), int(bad.sum()))
        raise ValueError(
            f"{name} holds {values[row]} at {at}, which is negative or not finite; expected "
            "finite nonnegative numbers; drop the row."
        )
    if not values.any():
        raise ValueError(
            f"{name} holds only zeros; expected at least one positive number; pass other weights."
        )
    return values


def effective_rows_findings(
    weights: Any,
    parameters: int,
    criteria: EffectiveRowsCriteria = EffectiveRowsCriteria(),
) -> list[Finding]:
    """Return a finding where unequal sampling weights leave few rows for each parameter, by Kish's
    effective sample size (Σ w)² / Σ w².
    """
    if weights is None:
        return []
    weights = np.asarray(weights, float)
    effective = weights.sum() ** 2 / (weights**2).sum()
    equal = np.ptp(weights) <= 1e-6 * weights.max()
    if equal or effective >= criteria.few * parameters:
        return []
    what = (
        f"the sampling weights leave {effective:.3g} effective rows of {len(weights):,} for "
        f"{pluralize(parameters, 'parameter')}: the standard errors are too small"
    )
    advice = "trim the largest weights, pass more rows, or use fewer parameters"
    severity = WARNING if effective >= criteria.very_few * parameters else ERROR
    return [Finding(what, advice, severity, FindingCode.SMALL_SAMPLE)]


def _whole(frequency: np.ndarray) -> np.ndarray:
    """Frequencies as integers; fractions are not rounded."""
    frequency = frequency.astype(float)
    if (frequency % 1 != 0).any():
        row = int(np.argmax(frequency % 1 != 0))
        raise ValueError(
            f"frequency_weights holds {frequency[row]} at row {row}; expected integers, because "
            "they count equal rows; pass sampling_weights= for weights of unequal probability."
        )
    if frequency.sum() > EXPANSION.max_rows:
        raise ValueError(
            f"frequency_weights add up to {frequency.sum():.3g} rows; expected at most "
            f"{EXPANSION.max_rows:.3g}, which fit into "
            "memory; pass sampling_weights= if they are weights of unequal probability."
        )
    return frequency.astype(np.int64)


def _codes(cluster: Any) -> np.ndarray:
    """Clusters numbered from 0; a missing label is no cluster."""
    import pandas as pd

    values = cluster if isinstance(cluster, np.ma.MaskedArray) else np.asarray(cluster)
    missing = np.ma.getmaskarray(values) | np.asarray(pd.isna(np.asarray(cluster)))
    if missing.any():
        at = row_text(int(np.argmax(missing)), row_index(cluster), int(missing.sum()))
        raise ValueError(
            f"cluster has a missing value at {at}; expected a label for each row; drop the row."
        )
    try:
        return np.unique(np.asarray(values), return_inverse=True)[1]
    except TypeError:  # labels of several types, which have no order
        return pd.factorize(np.asarray(values, object))[0]
