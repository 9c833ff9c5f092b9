"""A network's sizes, checked, and its random start."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def initialize(make: Callable, seed: int) -> Any:
    """The network, its random start drawn by NumPy: a declaration runs no JAX operation, so that
    devices stay open.
    """
    import equinox as eqx

    rng = np.random.default_rng(seed)

    def draw(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        # As Equinox does: uniform within one over the root of what a unit takes in; biases (1 or 3
        # axes) start at 0.
        limit = math.prod(leaf.shape[1:]) ** -0.5 if leaf.ndim in (2, 4) else 0.0
        return rng.uniform(-limit, limit, leaf.shape).astype(leaf.dtype)

    return jax.tree.map(draw, eqx.filter_eval_shape(lambda: make(jax.random.key(0))))


def check_sizes(confinement: float, name: str = "confinement", /, **sizes: int) -> None:
    """Refuse sizes that are no positive integers, and a confinement that is not positive."""
    for axis, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{axis} is {size!r}; it must be a positive integer; correct it.")
    if not confinement > 0:
        raise ValueError(
            f"{name} is {confinement!r}; it must be positive, or Z is infinite; raise it."
        )
