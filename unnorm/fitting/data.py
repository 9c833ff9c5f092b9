"""Data at the door: arrays, DataFrames, xarray or dicts become events by name, checked against the declaration."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import listed
from unnorm.signature import refuse_unknown


def read_data(p: Density, data: Any) -> tuple[Density, dict[str, np.ndarray]]:
    """Return the density with its dimensions (and labels) taken from the data, and the data as ``{name: (n, ...)}``."""
    declared = p.variables | p.covariates
    columns, labels = _by_name(p, data, declared)
    missing = [name for name in declared if name not in columns]
    if missing:
        found = listed([str(name) for name in getattr(data, "columns", columns)]) or "none"
        raise ValueError(
            f"data has no values for {missing[0]}; found {found}; expected {', '.join(declared)}; variables absent "
            "from the data (latent ones) are not served yet, so pass them all."
        )
    events = {name: _column(name, declared[name], columns[name]) for name in declared}
    sizes = {name: len(event) for name, event in events.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"data has {sizes} rows; expected as many for every variable; align them.")
    if not next(iter(sizes.values())):
        raise ValueError("data has no rows; expected at least one; pass some.")
    p = p.resolved({name: event.shape[1:] for name, event in events.items()})
    for axis, names in labels.items():
        if p.labels.get(axis, tuple(names)) != tuple(names):
            raise ValueError(
                f"data has the labels {listed(names)} along {axis!r}; expected {listed(list(p.labels[axis]))} by the "
                "density; put the columns into that order, or rename them."
            )
    p = p.with_dimensions(**{axis: names for axis, names in labels.items() if axis not in p.labels})
    for name, support in p.variables.items():
        support.check(events[name], name)
    return p, events


def _by_name(p: Density, data: Any, declared: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list]]:
    """Sort the data by variable, and take the labels that it brings."""
    if hasattr(data, "data_vars"):  # an xarray.Dataset
        data = {str(name): data[name] for name in data.data_vars}
    if hasattr(data, "columns") and (len(declared) > 1 or set(declared) <= set(data.columns)):
        return {name: data[name].to_numpy() for name in declared if name in data.columns}, {}
    if not isinstance(data, Mapping):
        if len(declared) > 1:
            raise ValueError(
                f"data is a {type(data).__name__}, and {p.name} has {', '.join(declared)}; pass a dict or DataFrame by "
                "name."
            )
        data = {next(iter(declared)): data}
    refuse_unknown("data", "variable or covariate", data, declared)
    labels: dict[str, list] = {}
    for name, value in data.items():
        axes = declared[name].axes
        if hasattr(value, "columns") and axes and isinstance(axes[-1], str):
            labels[axes[-1]] = [str(column) for column in value.columns]
        if hasattr(value, "coords") and hasattr(value, "dims"):
            found = {a: [str(v) for v in value.coords[a].values] for a in axes if a in value.coords}
            labels |= found
    return dict(data), labels


def _column(name: str, support: Any, value: Any) -> np.ndarray:
    try:
        value = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths; expected one array of numbers; align them.") from None
    if value.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {value.dtype}; expected numbers; code it as numbers first.")
    value = value.astype(value.dtype if value.dtype.kind == "f" else float)
    rank = len(support.shape_axes)
    if value.ndim == rank:
        advice = f", or declare {name}: {type(support).__name__.strip('_')}" if rank == 1 else ""
        raise ValueError(f"{name} with the shape {value.shape} is one event of {name}; pass data[None]{advice}.")
    if value.ndim != rank + 1:
        raise ValueError(
            f"{name} has the shape {value.shape}; expected {rank + 1} axes, rows first, for {name} is declared "
            f"{support!r}; reshape it."
        )
    return value
