"""Data at the door: arrays, DataFrames, xarray or dicts become events by name, checked against the
declaration.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unnorm.core.findings import join_names
from unnorm.core.messages import RowLabels
from unnorm.declaration.composite.missing_entries import filled, places_of_missing, refuse_unusable
from unnorm.declaration.density import Density
from unnorm.declaration.slots import refuse_unknown
from unnorm.fitting.data.columns import (
    column_values,
    refuse_other_rows,
    row_index,
    values_by_name,
    without_columns,
)


def event_size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of coordinates of one event of these shapes."""
    return sum(int(np.prod(shape)) for shape in shapes.values())


def read_data(
    p: Density, data: Any, apart: Sequence[str] = (), supplied: Sequence[str] = ()
) -> tuple[Density, dict[str, np.ndarray]]:
    """Return the density with its dimensions (and labels) taken from the data, and the data as
    ``{name: (n, ...)}``.

    Variables that the data do not bring are latent, and so are entries that are NaN; covariates
    must be there, but for those `supplied` by the objective. The columns `apart` are no variables.
    """
    declared = {n: s for n, s in (p.variables | p.covariates).items() if n not in supplied}
    data = without_columns(data, [name for name in apart if name not in declared])
    columns, labels = values_by_name(p.name, data, declared, p.labels)
    found = [str(name) for name in getattr(data, "columns", columns)]
    _refuse_absent(p, declared, columns, found)
    refuse_other_rows({name: (declared[name], column) for name, column in columns.items()})
    events = {
        name: column_values(name, declared[name], columns[name], name in p.variables)
        for name in declared
        if name in columns
    }
    sizes = {name: len(event) for name, event in events.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"data has {sizes} rows; expected equally many for every variable; align them."
        )
    if not next(iter(sizes.values())):
        raise ValueError(
            "data has no rows; expected at least one row; check how the data were selected."
        )
    p = p.resolved({name: event.shape[1:] for name, event in events.items()})
    _refuse_other_labels(p, labels)
    p = p.with_dimensions(**{axis: names for axis, names in labels.items() if axis not in p.labels})
    _check_values(p, events, RowLabels(row_index(data), p.labels))
    return p, events


def read_covariates(p: Density, data: Any) -> dict[str, np.ndarray]:
    """The covariates in the data, ``{name: (n, ...)}``; variables may be absent."""
    if isinstance(data, Mapping):
        refuse_unknown("data", "variable or covariate", data, p.variables | p.covariates)
        data = {name: value for name, value in data.items() if name in p.covariates}
    columns, labels = values_by_name(p.name, data, p.covariates, p.labels)
    _refuse_other_labels(p, labels)
    absent = [name for name in p.covariates if name not in columns]
    if absent:
        raise ValueError(
            f"data has no values for {absent[0]}; it must hold {', '.join(p.covariates)}; pass "
            "them by name."
        )
    refuse_other_rows({name: (p.covariates[name], column) for name, column in columns.items()})
    events = {n: column_values(n, p.covariates[n], value, False) for n, value in columns.items()}
    sizes = {name: len(event) for name, event in events.items()}
    if len(set(sizes.values())) > 1 or not next(iter(sizes.values())):
        raise ValueError(
            f"data has {sizes} rows; it must have equally many for each name, and at least one; "
            "align them."
        )
    p.resolved({name: event.shape[1:] for name, event in events.items()})
    _check_values(p, events, RowLabels(row_index(data), {**p.labels, **labels}))
    return events


def _refuse_other_labels(p: Density, labels: Mapping[str, Sequence[str]]) -> None:
    """Refuse columns that are not those of the density's dimension, or stand in another order."""
    for axis, names in labels.items():
        if p.labels.get(axis, tuple(names)) != tuple(names):
            raise ValueError(
                f"data has the labels {join_names(names)} along {axis!r}; expected "
                f"{join_names(list(p.labels[axis]))} by the density; put the columns into that "
                "order, or rename them."
            )


def _check_values(p: Density, events: dict[str, np.ndarray], rows: RowLabels) -> None:
    """Refuse values outside the supports; NaN is a missing entry of a variable, and of nothing
    else.
    """
    refuse_unusable(p.variables, events, rows)
    complete = filled(p.variables, events)
    for name, event in events.items():
        if name in p.variables:
            p.variables[name].check(complete[name], name, rows)
        elif not np.isfinite(event).all():
            bad = ~np.isfinite(event)
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            held = rows.entry(name, where, p.covariates[name].shape_axes)
            raise ValueError(
                f"Covariate {held} is {event[where]} at {rows.row(where[0], int(bad.sum()))}; it "
                "must be finite, because covariates are not modelled; drop the row, or impute the "
                "value."
            )


def _refuse_absent(
    p: Density, declared: Mapping[str, Any], columns: Mapping[str, Any], found: list[str]
) -> None:
    """Refuse data without a covariate, without any variable, or with other columns in the place of
    a variable.
    """
    covariates = [name for name in p.covariates if name in declared]
    absent = [name for name in (*covariates, *p.variables) if name not in columns]
    strange = [name for name in found if name not in p.variables and name not in p.covariates]
    no_variable = not any(name in columns for name in p.variables)
    if absent and (absent[0] in p.covariates or no_variable or strange):
        advice = (
            "rename the column, or drop those that the density does not know: then it is latent"
        )
        if absent[0] in p.covariates or no_variable:
            advice = "pass it by that name"
        raise ValueError(
            f"data has no values for {absent[0]}; found {join_names(found) or 'none'}; expected "
            f"{', '.join(declared)}; {advice}."
        )


def refuse_latent(p: Density, events: Mapping[str, Any], verb: str) -> None:
    """Refuse data that leave a variable or an entry out, where that is not served."""
    for name in p.variables:
        if name not in events:
            raise ValueError(
                f"data has no values for {name}, and {verb} takes no latent variables; expected "
                f"{', '.join(p.variables)}; pass it, or sum it out in the function."
            )
    refuse_missing_entries(p.variables, events, verb, RowLabels(None, p.labels))


def refuse_missing_entries(
    variables: Mapping[str, Any],
    events: Mapping[str, Any],
    verb: str,
    rows: RowLabels = RowLabels(),  # noqa: B008 - never written to
) -> None:
    """Refuse missing entries, where they are not served."""
    for place in places_of_missing(variables, events, rows):
        raise ValueError(
            f"{place} is missing, and {verb} takes no missing values; expected a number; drop "
            "the row, or impute it."
        )


def first_of(
    p: Density, data: Any, supplied: Sequence[str] = ()
) -> tuple[Density, Any, Iterator[dict[str, np.ndarray]] | None]:
    """Return the density as the data make it, the data or the first of their batches, and all
    batches where they are.

    An iterable without an index, and without an array's interface, is one of batches.
    """
    if not hasattr(data, "__iter__") or any(
        hasattr(data, part) for part in ("__getitem__", "__array__")
    ):
        return p, data, None
    first = next(iter(data), None) if not hasattr(data, "__next__") else next(data, None)
    if first is None:
        raise ValueError(
            "data is an iterable without a batch; expected at least one; pass an array, or batches."
        )
    p, events = read_data(p, first, supplied=supplied)
    refuse_missing_entries(p.variables, events, "a fit on batches")
    shapes = {name: event.shape for name, event in events.items()}

    def checked() -> Iterator[dict[str, np.ndarray]]:
        if hasattr(data, "__next__"):
            yield events
        while True:
            for batch in data:
                batch = read_data(p, batch, supplied=supplied)[1]
                refuse_missing_entries(p.variables, batch, "a fit on batches")
                found = {name: event.shape for name, event in batch.items()}
                if found != shapes:
                    raise ValueError(
                        f"data gave a batch of the shapes {found} after {shapes}; expected "
                        "batches of equal shapes; drop the incomplete batch."
                    )
                yield batch
            if hasattr(data, "__next__"):  # it is spent
                return

    return p, first, checked()
