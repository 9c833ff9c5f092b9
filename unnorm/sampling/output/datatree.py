"""Draws as ArviZ's own DataTree, with all that is needed to know where they came from."""

import contextlib
import functools
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np

from unnorm.declaration.density import Density
from unnorm.statistics.mcmc import potential_scale_reduction


def to_datatree(
    p: Density,
    events: dict[str, np.ndarray],
    stats: dict[str, np.ndarray],
    attributes: dict[str, Any],
    tracked: dict[str, np.ndarray],
    moments: Any = (),
) -> Any:
    """Return posterior and sample_stats, (chain, draw, ...), labelled by the density's dimensions;
    and any moments.
    """
    import xarray

    posterior = {}
    for name, support in p.variables.items():
        if name in events:
            posterior[name] = _whole(support, events[name])
    dims, coords = labels_of(p)
    groups = {"posterior": posterior | tracked, "sample_stats": stats}
    if tracked and len({value.shape[1] for value in groups["posterior"].values()}) > 1:
        groups |= {
            "posterior": tracked,
            "last": posterior,
        }  # every draw was tracked, and the last state alone is kept
    tree = xarray.DataTree.from_dict({k: _dataset(v, dims, coords) for k, v in groups.items() if v})
    if moments:
        variables = {}
        for name, values in moment_arrays(moments).items():
            axes = dims.get(name.rpartition("_")[0], [])
            leading = [] if name.endswith("_rhat") else ["chain"]
            variables[name] = ([*leading, *axes], values)
        tree["moments"] = xarray.DataTree(xarray.Dataset(variables, coords=coords))
    tree.attrs.update(attributes)
    return tree


def predictive_tree(
    p: Density,
    drawn: dict[str, np.ndarray],
    observed: dict[str, np.ndarray],
    attributes: dict[str, Any],
) -> Any:
    """Data sets {name: (replicates, rows, ...)} and data {name: (rows, ...)} in the groups of
    ArviZ's schema.
    """
    import xarray

    dims, coords = labels_of(p)
    row = "row" if "row" not in p.dimensions | p.variables else "data_row"
    drawn = {name: _whole(p.variables[name], value)[None] for name, value in drawn.items()}
    observed = {name: _whole(p.variables[name], observed[name]) for name in drawn}
    groups = {
        "posterior_predictive": _dataset(drawn, dims, coords, ("chain", "draw", row)),
        "observed_data": _dataset(observed, dims, coords, (row,)),
    }
    tree = xarray.DataTree.from_dict(groups)
    tree.attrs.update(attributes)
    return tree


def _whole(support, values: np.ndarray) -> np.ndarray:
    """Codes and counts as integers."""
    values = np.asarray(values)
    return (
        np.rint(values).astype(np.int64)
        if support.discrete and values.dtype.kind == "f"
        else values
    )


def _dataset(
    values: dict[str, np.ndarray],
    dims: dict[str, list[str]],
    coords: dict[str, list],
    leading=("chain", "draw"),
):
    """Arrays (chain, draw, ...) as ArviZ's schema has them; its own converter takes ten times as
    long for one draw.
    """
    import xarray

    sizes: dict
    variables, sizes = {}, {}
    for name, value in values.items():
        names = dims.get(name) or [f"{name}_dim_{i}" for i in range(value.ndim - len(leading))]
        variables[name] = ((*leading, *names), value)
        sizes |= dict(zip(variables[name][0], value.shape, strict=True))
    return xarray.Dataset(
        variables, {name: coords.get(name, np.arange(size)) for name, size in sizes.items()}
    )


def labels_of(p: Density) -> tuple[dict[str, list[str]], dict[str, list]]:
    """The names of each quantity's axes, and the labels of those that have some."""
    axes_of = {
        name: support.shape_axes for name, support in p.variables.items()
    } | p.deterministic_axes()
    dims = {name: axis_names(name, axes) for name, axes in axes_of.items() if axes}
    coords = {}
    for axes in dims.values():
        for axis in axes:
            label = p.labels.get(axis) or p.labels.get(axis.rpartition("_")[0])
            if label is not None:
                coords[axis] = list(label)
    return dims, coords


def moment_arrays(moments: Any) -> dict[str, np.ndarray]:
    """Mean and variance of each chain, (chain, ...), and split R-hat, by variable."""
    out = {}
    for name, means in moments.mean.items():
        mean, squares = np.asarray(means, float), np.asarray(moments.squares[name], float)
        count = np.asarray(moments.count, float).reshape(
            moments.count.shape + (1,) * (mean.ndim - 2)
        )
        total = count.sum(1)
        centre = (count * mean).sum(1) / total
        out[f"{name}_mean"] = centre
        pooled = squares.sum(1) + (count * (mean - centre[:, None]) ** 2).sum(1)
        out[f"{name}_variance"] = pooled / (total - 1)
        halves = mean.reshape(-1, *mean.shape[2:])
        variances = (squares / (count - 1)).reshape(halves.shape)
        out[f"{name}_rhat"] = potential_scale_reduction(halves, variances, count.mean())
    return out


def axis_names(name: str, axes: tuple) -> list[str]:
    """The names of a variable's axes in the draws: a dimension's second axis is d_2, an unnamed
    one x_dim_0.
    """
    names: list[str] = []
    for place, axis in enumerate(axes):
        wanted = axis if isinstance(axis, str) else f"{name}_dim_{place}"
        names.append(wanted if wanted not in names else f"{wanted}_{names.count(wanted) + 1}")
    return names


@functools.cache
def provenance() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("unnorm", "jax", "jaxlib", "blackjax", "numpyro", "optax", "numpy")
    python = {"python": ".".join(map(str, sys.version_info[:2]))}
    with contextlib.suppress(
        PackageNotFoundError
    ):  # unnorm run from a folder that was never installed
        return {name: version(name) for name in names} | python
    return {name: version(name) for name in names[1:]} | python


def as_json(tree: Any, *, max_size: int = 1000) -> str:
    """Tuning and options as JSON; of an array of more numbers only the shape."""

    def plain(leaf):
        array = np.asarray(leaf)
        return array.tolist() if array.size <= max_size else f"array of shape {array.shape}"

    return json.dumps(jax.tree.map(plain, tree))
