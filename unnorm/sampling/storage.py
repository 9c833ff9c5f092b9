"""Draws as ArviZ's own DataTree, with all that is needed to know where they came from."""

import json
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from unnorm.density import Density

_LARGEST_LISTED = 1000  # numbers of an adapted array that are written out in the attributes


def to_datatree(p: Density, events: dict[str, np.ndarray], stats: dict[str, np.ndarray], attributes: dict[str, Any]):
    """Return posterior and sample_stats, (chain, draw, ...), labelled by the density's dimensions."""
    import arviz_base

    posterior = {}
    for name, support in p.variables.items():
        posterior[name] = np.rint(events[name]).astype(np.int64) if support.discrete else events[name]
    dims = {name: axis_names(name, support.axes) for name, support in p.variables.items() if support.axes}
    coords = {}
    for axes in dims.values():
        for axis in axes:
            label = p.labels.get(axis) or p.labels.get(axis.rpartition("_")[0])
            if label is not None:
                coords[axis] = list(label)
    tree = arviz_base.from_dict({"posterior": posterior, "sample_stats": stats}, dims=dims, coords=coords)
    tree.attrs.update(attributes)
    return tree


def axis_names(name: str, axes: tuple) -> list[str]:
    """The names of a variable's axes in the draws: a dimension's second axis is d_2, a whole number x_dim_0."""
    names: list[str] = []
    for place, axis in enumerate(axes):
        wanted = axis if isinstance(axis, str) else f"{name}_dim_{place}"
        names.append(wanted if wanted not in names else f"{wanted}_{names.count(wanted) + 1}")
    return names


def provenance() -> dict[str, str]:
    """The versions that a result depends on."""
    return {name: version(name) for name in ("jax", "jaxlib", "blackjax", "numpyro", "numpy")}


def as_json(tree: Any) -> str:
    """Tuning and options as JSON; an array too long to read is told by its shape."""

    def plain(leaf):
        array = np.asarray(leaf)
        return array.tolist() if array.size <= _LARGEST_LISTED else f"array of shape {array.shape}"

    return json.dumps(jax.tree.map(plain, tree))
