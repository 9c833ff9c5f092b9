"""Data at the door: arrays, DataFrames, xarray or dicts become events by name, checked against the declaration."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unnorm.density import Density
from unnorm.diagnostics.verdict import listed
from unnorm.signature import refuse_unknown


def read_data(p: Density, data: Any) -> tuple[Density, dict[str, np.ndarray]]:
    """Return the density with its dimensions (and labels) taken from the data, and the data as ``{name: (n, ...)}``.

    Variables that the data do not bring are latent; covariates must be there.
    """
    declared = p.variables | p.covariates
    columns, labels = _by_name(p, data, declared)
    _refuse_absent(p, columns, [str(name) for name in getattr(data, "columns", columns)])
    events = {name: _column(name, declared[name], columns[name]) for name in declared if name in columns}
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
    for name, event in events.items():
        if name in p.variables:
            p.variables[name].check(event, name)
        elif not np.isfinite(event).all():
            raise ValueError(
                f"Covariate {name} holds a value that is not finite; expected finite numbers; drop such rows, or fill "
                "them in."
            )
    return p, events


def _refuse_absent(p: Density, columns: Mapping[str, Any], found: list[str]) -> None:
    """Refuse data without a covariate, without any variable, or with other columns in the place of a variable."""
    absent = [name for name in (*p.covariates, *p.variables) if name not in columns]
    strange = [name for name in found if name not in p.variables and name not in p.covariates]
    no_variable = not any(name in columns for name in p.variables)
    if absent and (absent[0] in p.covariates or no_variable or strange):
        advice = "rename the column, or drop those that the density does not know: then it is latent"
        if absent[0] in p.covariates or no_variable:
            advice = "pass it by that name"
        raise ValueError(
            f"data has no values for {absent[0]}; found {listed(found) or 'none'}; expected "
            f"{', '.join(p.variables | p.covariates)}; {advice}."
        )


def refuse_latent(p: Density, events: Mapping[str, Any], verb: str) -> None:
    """Refuse data that leave a variable out, where that is not served."""
    for name in p.variables:
        if name not in events:
            raise ValueError(
                f"data has no values for {name}, and {verb} takes no latent variables; expected "
                f"{', '.join(p.variables)}; pass it, or sum it out in the function."
            )


def first_of(p: Density, data: Any) -> tuple[Density, Any, Iterator[dict[str, np.ndarray]] | None]:
    """Return the density as the data make it, the data or the first of their batches, and all batches where they are.

    An iterable without an index, and without an array's interface, is one of batches.
    """
    if not hasattr(data, "__iter__") or any(hasattr(data, part) for part in ("__getitem__", "__array__")):
        return p, data, None
    first = next(iter(data), None) if not hasattr(data, "__next__") else next(data, None)
    if first is None:
        raise ValueError("data is an iterable without a batch; expected at least one; pass an array, or batches.")
    p, events = read_data(p, first)
    shapes = {name: event.shape for name, event in events.items()}

    def checked() -> Iterator[dict[str, np.ndarray]]:
        if hasattr(data, "__next__"):
            yield events
        while True:
            for batch in data:
                batch = read_data(p, batch)[1]
                found = {name: event.shape for name, event in batch.items()}
                if found != shapes:
                    raise ValueError(
                        f"data brought a batch of shapes {found} after {shapes}; expected equal ones; drop it."
                    )
                yield batch
            if hasattr(data, "__next__"):  # it is spent
                return

    return p, first, checked()


def read_weights(weights: Any, cluster: Any, events: dict[str, np.ndarray]):
    """Return the events, their weights of mean 1 (or None) and the clusters as numbers from 0 (or None).

    Whole numbers are frequencies: each row stands for so many equal ones, and is repeated. Others are sampling weights.
    """
    rows = len(next(iter(events.values())))
    weights, cluster = (None if v is None else np.asarray(v) for v in (weights, cluster))
    for name, value in (("weights", weights), ("cluster", cluster)):
        if value is not None and value.shape != (rows,):
            raise ValueError(
                f"{name} has the shape {value.shape}; expected one value for each of {rows} rows; align it."
            )
    codes = None if cluster is None else np.unique(cluster, return_inverse=True)[1]
    if weights is None:
        return events, None, codes
    if weights.dtype.kind not in "fiu" or not np.all(np.isfinite(weights) & (weights >= 0)) or not weights.any():
        raise ValueError(
            "weights hold a value that is no number of at least 0, or only zeros; expected such; mend them."
        )
    if weights.dtype.kind == "f":
        return events, weights / weights.mean(), codes
    repeated = {name: np.repeat(value, weights, 0) for name, value in events.items()}
    return repeated, None, None if codes is None else np.repeat(codes, weights)


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
