"""The statistics of observed and simulated graphs that a density's parameters multiply."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.interactions.tie_statistics import has_tie_statistics, statistics_of

_statistics = compiled(statistics_of)


def model_statistics(graphs: np.ndarray, density: Any) -> tuple[list[str], np.ndarray] | None:
    """Names and values (data sets, statistics) of graphs (data sets, rows, d, d), summed over the
    rows; None where the density does not declare what a tie changes.
    """
    density = density.for_jit()
    if not has_tie_statistics(density):
        return None
    name = next(iter(density.variables))
    flat = {name: jnp.asarray(graphs.reshape(-1, *graphs.shape[2:]))}
    values = np.asarray(_statistics(density, flat)["statistics"])
    labels = []
    for parameter, value in sorted(density.free().items()):
        inside = range(np.size(value))
        labels += [parameter] if np.ndim(value) == 0 else [f"{parameter}[{i}]" for i in inside]
    return labels, values.reshape(*graphs.shape[:2], -1).sum(1)


__all__ = ["model_statistics"]
