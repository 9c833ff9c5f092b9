"""Draws in unconstrained coordinates, and names of these coordinates."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from unnorm.declaration.density import Density


def positions_of(p: Density, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws (chain, draw, *event) as positions (chain, draw, ...), in the precision of the
    moment.
    """
    leading = next(iter(values.values())).shape[:2]
    events = {
        name: np.asarray(values[name], float).reshape((-1, *values[name].shape[2:]))
        for name in p.variables
    }
    free = {
        name: np.asarray(_unconstrained(support, events[name]))
        for name, support in p.variables.items()
    }
    return {name: value.reshape(*leading, *value.shape[1:]) for name, value in free.items()}


def _unconstrained(support: Any, value: np.ndarray) -> np.ndarray:
    """Unconstrained coordinates; a value that rounding put onto the boundary is first moved just
    inside.
    """
    keys = jax.random.split(jax.random.key(0), len(value))
    free = np.asarray(jax.vmap(support.lifted)(value, keys))
    bad = ~np.isfinite(free).reshape(len(free), -1).all(1)
    if bad.any():
        free = free.copy()
        free[bad] = np.asarray(jax.vmap(support.unconstrain)(support.inward(value[bad])))
    return free


def flat(value: np.ndarray) -> np.ndarray:
    """(chain, draw, entries)."""
    return value.reshape(*value.shape[:2], -1)


def named(name: str, shape: tuple[int, ...], labels: list[str]) -> list[str]:
    """Names of coordinates; those of the entries where there are as many of one as of the other."""
    size = int(np.prod(shape))
    return labels if len(labels) == size else [f"{name} (unconstrained {i})" for i in range(size)]
