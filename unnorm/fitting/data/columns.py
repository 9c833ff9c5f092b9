"""Columns of the containers that users hold data in: by name, with their labels and rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unnorm.core.containers import (
    is_frame,
    is_network,
    is_series,
    is_xarray,
    to_numbers,
    transpose_to_axes,
)
from unnorm.core.findings import join_names
from unnorm.core.messages import pluralize
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
    density: str, data: Any, declared: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list]]:
    """Sort the data by variable, and take the labels that it brings; the density by its name."""
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
    data = {name: [value] if is_network(value) else value for name, value in data.items()}
    for name, value in data.items():
        axes = declared[name].axes
        if isinstance(value, list | tuple) and value and is_network(value[0]) and axes:
            labels |= _labels_of_nodes(value[0], axes[-1])
        if hasattr(value, "columns") and axes and isinstance(axes[-1], str):
            labels[axes[-1]] = [str(column) for column in value.columns]
        if hasattr(value, "coords") and hasattr(value, "dims"):
            found = {a: [str(v) for v in value.coords[a].values] for a in axes if a in value.coords}
            labels |= found
    return dict(data), labels


def _labels_of_nodes(network: Any, axis: Any) -> dict[str, list]:
    """The names of a network's nodes, where they are names and not numbers."""
    nodes = list(network)
    named = isinstance(axis, str) and all(isinstance(node, str) for node in nodes)
    return {axis: nodes} if named else {}


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
