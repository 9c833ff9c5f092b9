"""How a density holds its values: floating arrays are pytree leaves, all else is static."""

import contextlib
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.core.containers import stacked, to_numbers

_INT32 = np.iinfo(np.int32)


class StaticArray:
    """An array of integers or booleans, compared and hashed by content so that it may be
    static.
    """

    def __init__(self, array: np.ndarray):
        self.array = array
        self._key = (array.shape, array.dtype.str, array.tobytes())
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, StaticArray) and self._key == other._key


class Held(NamedTuple):
    """A value taken apart: its floating leaves, and what rebuilds it around them."""

    leaves: list
    static: tuple


def is_floating(leaf: Any) -> bool:
    return (
        hasattr(leaf, "dtype") and hasattr(leaf, "shape") and np.issubdtype(leaf.dtype, np.inexact)
    )


def _frozen(array: np.ndarray) -> np.ndarray:
    """Return a copy that nobody can write to, so that a density does not change when the caller's
    array does.
    """
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def at_rest(value: Any, name: str = "a value", floats: bool = True) -> Any:
    """Return the value with its numbers as NumPy arrays; Python floats become leaves unless
    `floats` is off.
    """

    def settle(leaf: Any) -> Any:
        if isinstance(leaf, jax.core.Tracer) or leaf is None:
            return leaf
        if isinstance(leaf, float) and floats:
            return _frozen(np.asarray(leaf))
        if _is_large(leaf):
            return _frozen(np.asarray(float(leaf)))
        if hasattr(leaf, "to_numpy") or (hasattr(leaf, "dtype") and hasattr(leaf, "shape")):
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "US":
                raise ValueError(
                    f"{name} holds an array of dtype {leaf.dtype}; expected numbers; code the "
                    "labels as integers "
                    "first."
                )
            return _frozen(_in_range(to_numbers(leaf, name, allow_complex=True)))
        return leaf

    if isinstance(value, list):
        with contextlib.suppress(ValueError):  # rows of different lengths stay a list of them
            value = stacked(value)
    return jax.tree.map(settle, value)


def _is_large(leaf: Any) -> bool:
    """Whether a Python integer is beyond JAX's 32-bit ones."""
    return (
        isinstance(leaf, int)
        and not isinstance(leaf, bool)
        and not _INT32.min <= leaf <= _INT32.max
    )


def _in_range(array: np.ndarray) -> np.ndarray:
    """Whole numbers beyond 32 bits as floating ones: in single precision JAX would keep their
    lowest bits alone.
    """
    outside = (
        array.dtype.kind in "iu"
        and array.size
        and not _INT32.min <= array.min() <= array.max() <= _INT32.max
    )
    return array.astype(float) if outside else array


def hold(value: Any) -> Held:
    """Take a value at rest apart."""
    leaves, treedef = jax.tree.flatten(value)
    floating = [is_floating(leaf) for leaf in leaves]
    static = tuple(
        None if is_float else StaticArray(leaf) if isinstance(leaf, np.ndarray) else leaf
        for leaf, is_float in zip(leaves, floating, strict=True)
    )
    dynamic = [leaf for leaf, is_float in zip(leaves, floating, strict=True) if is_float]
    return Held(dynamic, (treedef, tuple(floating), static))


def join(leaves: list, static: tuple) -> Any:
    """Rebuild a value around its floating leaves."""
    treedef, floating, rest = static
    moving = iter(leaves)
    return jax.tree.unflatten(
        treedef,
        [
            next(moving) if is_float else leaf.array if isinstance(leaf, StaticArray) else leaf
            for is_float, leaf in zip(floating, rest, strict=True)
        ],
    )
