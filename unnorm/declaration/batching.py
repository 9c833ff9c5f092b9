"""What is declared for one event, at many: a function over the leading axes of the events,
compiled.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled


def over_events(function: Callable, density: Any, events: Mapping[str, jax.Array]) -> Any:
    """Map a function of (density, one event) over all axes before those that the density
    declares.
    """
    declared = density.variables | density.covariates
    axes = tuple(
        (name, event.ndim - len(declared[name].shape_axes)) for name, event in events.items()
    )
    return _vmap_flat(function, density, events, axes)


@compiled(static_argnames=("function", "axes"))
def _vmap_flat(function: Callable, density: Any, events: dict, axes: tuple[tuple[str, int], ...]):
    leading = jnp.broadcast_shapes(*(events[name].shape[:rank] for name, rank in axes))
    flat = {}
    for name, rank in axes:
        value = events[name]
        value = jnp.broadcast_to(value, leading + value.shape[rank:])
        flat[name] = value.reshape((-1,) + value.shape[len(leading) :])
    out = jax.vmap(lambda event: function(density, event))(flat)
    return jax.tree.map(lambda leaf: leaf.reshape(leading + leaf.shape[1:]), out)


def joint_states(variables: Mapping[str, tuple[Any, tuple[int, ...]]]) -> dict[str, jax.Array]:
    """All joint states of variables, given as (support, shape), of few states: (S, *shape) each."""
    sizes = {name: math.prod(shape) for name, (_, shape) in variables.items()}
    entries = [
        support.states for name, (support, _) in variables.items() for _ in range(sizes[name])
    ]
    table = np.array(list(itertools.product(*entries)), float)
    ends = np.cumsum(list(sizes.values()))
    parts = np.split(table, ends[:-1], axis=1)
    return {
        name: jnp.asarray(part.reshape(-1, *shape))
        for (name, (_, shape)), part in zip(variables.items(), parts, strict=True)
    }
