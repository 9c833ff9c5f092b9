"""Draws as positions of the unconstrained view of a density."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from unnorm.core.random_keys import key_array, make_key
from unnorm.declaration.unconstrained import Unconstrained


def positions_of(view: Unconstrained, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws (chain, draw, *event) as positions (chain, draw, ...), in the current precision."""
    leading = next(iter(values.values())).shape[:2]
    positions = {}
    for name, support in view.supports.items():
        events = np.asarray(values[name], float).reshape((-1, *values[name].shape[2:]))
        free = np.asarray(_unconstrain(support, events))
        positions[name] = free.reshape(*leading, *free.shape[1:])
    return positions


def _unconstrain(support: Any, value: np.ndarray) -> np.ndarray:
    """Unconstrained coordinates; a value rounded onto the boundary is first moved inside."""
    keys = key_array(make_key(0), len(value))
    free = np.asarray(jax.vmap(support.lift)(value, keys))
    bad = ~np.isfinite(free).reshape(len(free), -1).all(1)
    if bad.any():
        free = free.copy()
        free[bad] = np.asarray(jax.vmap(support.unconstrain)(support.inward(value[bad])))
    return free


def flat(value: np.ndarray) -> np.ndarray:
    """(chain, draw, entries)."""
    return value.reshape(*value.shape[:2], -1)


def flat_vectors(view: Unconstrained, positions: Mapping[str, np.ndarray]) -> np.ndarray:
    """The continuous coordinates (chain, draw, D), in the order of the view's flat vector."""
    return np.concatenate([flat(positions[name]) for name in view.free_shapes], -1)


def as_events(positions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Positions with one leading axis, (chain · draw, ...)."""
    return {name: value.reshape(-1, *value.shape[2:]) for name, value in positions.items()}


def coordinate_labels(name: str, shape: tuple[int, ...], labels: list[str]) -> list[str]:
    """Names of a variable's coordinates; those of its entries where there are as many."""
    size = int(np.prod(shape))
    return labels if len(labels) == size else [f"{name} (unconstrained {i})" for i in range(size)]
