"""Columns of the containers that users hold data in: by name, with their labels and rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unnorm.core.containers import (
    axis_labels,
    is_frame,
    is_series,
    is_xarray,
    to_numbers,
    transpose_to_axes,
)
from unnorm.core.findings import join_names
from unnorm.core.messages import pluralize
from unnorm.declaration.labelled_matrices import is_square, matrices_in_order
from unnorm.declaration.slots import refuse_unknown


def columns_of(data: Any) -> Mapping[str, Any]:
    """The named columns of data; none of an array."""
    if is_xarray(data):
        return {str(name): data.coords[name] for name in data.coords}
    if hasattr(data, "data_vars"):  # an xarray.Dataset
        return {str(name): data[name] for name in data.variables}
    if hasattr(data, "columns"):
        return {str(name): data[name] for name in data.columns}
    return data if isinstance(data, Mapping) else {}


def row_index(data: Any) -> Any:
    """The labels of the rows as a pandas index; None where there are none."""
    if is_frame(data) or is_series(data):
        return data.index
    if is_xarray(data) and np.ndim(data) == 1:
        return data.indexes.get(data.dims[0])
    if isinstance(data, Mapping):
        return next((found for found in map(row_index, data.values()) if found is not None), None)
    return None


def without_columns(data: Any, names: list[str]) -> Any:
    """The data without these columns, where it has them."""
    names = [name for name in names if name in columns_of(data)]
    if not names or is_xarray(data):
        return data
    if hasattr(data, "drop_vars"):
        return data.drop_vars(names)
    if is_frame(data):
        return data.drop(columns=names)
    return (
        data.drop(names)
        if hasattr(data, "columns")
        else {k: v for k, v in data.items() if k not in names}
    )


def refuse_other_rows(columns: dict[str, tuple[Any, Any]]) -> None:
    """Refuse variables whose rows carry different labels: taken by position they would be
    misaligned.
    """
    first: dict[str, tuple[str, Any]] = {}
    for name, (support, column) in columns.items():
        for kind, found in (
            ("index", row_index(column)),
            ("dimension of rows", _row_dimension(column, support)),
        ):
            known, expected = (
                first.setdefault(kind, (name, found)) if found is not None else (name, None)
            )
            if known != name and not (
                expected.equals(found)  # type: ignore[union-attr]
                if kind == "index"
                else expected == found
            ):
                raise ValueError(
                    f"{known} and {name} have rows with a different {kind}; expected the same in "
                    "both, because row i is one event; align them first, or pass only their values."
                )


def _row_dimension(column: Any, support: Any) -> str | None:
    """The name of an xarray object's dimension of rows; None where it has none of its own."""
    if not is_xarray(column):
        return None
    others = [
        str(dim) for dim in column.dims if str(dim).removesuffix("_2") not in support.shape_axes
    ]
    return others[0] if len(others) == 1 and not others[0].startswith("dim_") else None


def values_by_name(
    density: str, data: Any, declared: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, list]]:
    """Sort the data by variable, and take the labels that it brings; the density by its name.

    Labelled matrices come with their nodes in the order of the `known` labels of the dimension, or
    of the first one.
    """
    if hasattr(data, "data_vars"):  # an xarray.Dataset
        data = {str(name): data[name] for name in data.data_vars}
    if hasattr(data, "columns") and (len(declared) > 1 or set(declared) <= set(data.columns)):
        return {name: data[name] for name in declared if name in data.columns}, {}
    if not isinstance(data, Mapping):
        if len(declared) > 1:
            raise ValueError(
                f"data is a {type(data).__name__}, and {density} has the variables "
                f"{', '.join(declared)}; expected values by name; pass a dict or a DataFrame."
            )
        name, support = next(iter(declared.items()))
        if hasattr(data, "columns") and not support.axes:
            raise ValueError(
                f"data has the columns {join_names([str(c) for c in data.columns])}; expected "
                f"{name}; rename the column."
            )
        data = {name: data}
    refuse_unknown("data", "variable or covariate", data, declared)
    labels: dict[str, list] = {}
    for name, value in data.items():
        for axis, found in _labels_of(value, declared[name].shape_axes).items():
            _refuse_two_orders(name, axis, found, labels.setdefault(axis, found))
    data = dict(data)
    for name, value in data.items():
        data[name], order = _matrices(name, value, declared[name], {**labels, **known})
        labels = {**order, **labels}
    return data, labels


def _labels_of(value: Any, axes: tuple) -> dict[str, list]:
    """The labels of the dimensions of an event, but for those of matrices."""
    if is_square(axes):
        return {}
    if isinstance(value, list | tuple):
        found = [_labels_of(one, axes) if is_xarray(one) else _labels_of_entry(one, axes)
                 for one in value]  # fmt: skip
        labels: dict[str, list] = {}
        for i, one in enumerate(found):
            for axis, names in one.items():
                _refuse_two_orders(f"entry {i}", axis, names, labels.setdefault(axis, names))
        return labels
    if hasattr(value, "columns") and axes and isinstance(axes[-1], str):
        return {axes[-1]: [str(column) for column in value.columns]}
    if hasattr(value, "coords") and hasattr(value, "dims"):
        return {a: [str(v) for v in value.coords[a].values] for a in axes if a in value.coords}
    return {}


def _labels_of_entry(value: Any, axes: tuple) -> dict[str, list]:
    """The labels of one event in a list of them."""
    found = {axis: axis_labels(value, i) for i, axis in enumerate(axes) if isinstance(axis, str)}
    return {axis: names for axis, names in found.items() if names is not None}


def _refuse_two_orders(name: str, axis: str, found: list, first: list) -> None:
    """Refuse labels of one dimension that come in two orders."""
    if list(found) != list(first):
        raise ValueError(
            f"{name} has the labels {join_names(found)} along {axis!r}, and what came before has "
            f"{join_names(first)}; must be the same, in one order; reindex it."
        )


def _matrices(
    name: str, value: Any, support: Any, known: Mapping[str, Sequence[str]]
) -> tuple[Any, dict[str, list]]:
    """Matrices with their nodes in the order known, or their own, and that order."""
    axes = support.shape_axes
    if not is_square(axes):
        return value, {}
    order = known.get(axes[0])
    categories = getattr(support, "categories", None)
    value, found = matrices_in_order(value, name, axes, order, categories=categories, missing=True)
    if found is None or not isinstance(axes[0], str):
        return value, {}
    return value, {axes[0]: list(found)}


def column_values(name: str, support: Any, value: Any, missing: bool) -> np.ndarray:
    """The values of a variable as numbers, (n, ...), its axes in the declared order."""
    value = transpose_to_axes(value, name, support.shape_axes)
    value = to_numbers(value, name, getattr(support, "categories", None), missing=missing)
    value = value.astype(value.dtype if value.dtype.kind == "f" else float)
    rank = len(support.shape_axes)
    if value.ndim == rank:
        advice = f", or declare {name}: {type(support).__name__.strip('_')}" if rank == 1 else ""
        raise ValueError(
            f"{name} with the shape {value.shape} is one event of {name}; pass data[None]{advice}."
        )
    if value.ndim != rank + 1:
        raise ValueError(
            f"{name} has the shape {value.shape}; expected {pluralize(rank + 1, 'axis')}, rows "
            f"first, because {name} is declared {support!r}; reshape it."
        )
    return value
