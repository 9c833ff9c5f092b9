"""The values that a density holds: checked against their supports and broadcast to full shape.

Floating arrays are pytree leaves of a density; everything else is static.
"""

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.containers import (
    axis_labels,
    refuse_too_large,
    stack_entries,
    to_numbers,
    transpose_to_axes,
)
from unnorm.core.messages import join_names
from unnorm.declaration.labelled_matrices import is_square, matrices_in_order, matrix_in_order
from unnorm.declaration.slots import COVARIATE, PARAMETER, Slot, unify
from unnorm.supports.base import Support


def check_value(slot: Slot, value: Any, labels: Mapping[str, tuple]) -> Any:
    """A value given for a slot, at rest and inside its support; traced values are taken as they
    are.
    """
    if not slot.has_shape or isinstance(value, jax.core.Tracer):
        return value
    value = in_label_order(slot, value, labels)
    value = numbers(slot, at_rest(value, slot.name))
    if slot.role == COVARIATE:
        if not np.isfinite(value).all():
            raise ValueError(
                f"{slot.name} was given {value}; expected finite numbers; correct the value."
            )
        return value.astype(float) if value.dtype.kind != "f" else value
    if value.ndim:
        unify(
            {}, slot, value.shape
        )  # its shape before its entries: a check may count on square matrices
        slot.support.check(value, slot.name)
    return value


def in_label_order(slot: Slot, value: Any, labels: Mapping[str, tuple]) -> Any:
    """The value with its axes in the declared order; a labelled matrix with its nodes in that of
    the dimension, other containers refused where their labels stand in another order.
    """
    axes = slot.support.shape_axes
    if is_square(axes):
        ordered = matrices_in_order if isinstance(value, list | tuple) else matrix_in_order
        return ordered(value, slot.name, axes, labels.get(axes[0]))[0]
    value = transpose_to_axes(value, slot.name, axes)
    refuse_other_labels(slot.name, axes, value, labels)
    return value


def refuse_other_labels(name: str, axes: tuple, value: Any, labels: Mapping[str, tuple]) -> None:
    """Refuse a container whose labels are not those of the dimension, or stand in another order.

    `axes` are its last ones; axes before them are rows, chains or draws.
    """
    leading = getattr(value, "ndim", len(axes)) - len(axes)
    for place, axis in enumerate(axes):
        known, found = labels.get(axis), axis_labels(value, leading + place)
        if known is not None and found is not None and list(known) != found:
            raise ValueError(
                f"{name} has the labels {join_names(found)} along {axis!r}; expected "
                f"{join_names(list(known))}; reindex it, or pass its values alone."
            )


def refuse_other_labels_by_name(
    what: str, variables: Mapping[str, Support], given: Any, labels: Mapping[str, tuple]
) -> None:
    """Refuse labels of other entries in values by name, such as starts, or in draws."""
    held = getattr(given, "posterior", given)
    if not (isinstance(held, Mapping) or hasattr(held, "data_vars")):
        held = {name: held for name in variables} if len(variables) == 1 else {}
    for name, support in variables.items():
        if name in held:
            whose, given = f"{what} of {name}", held[name]
            for one in given if isinstance(given, list | tuple) else [given]:
                value = transpose_to_axes(one, whose, support.shape_axes)
                refuse_other_labels(whose, support.shape_axes, value, labels)


def numbers(slot: Slot, value: Any) -> Any:
    """The value as one array, of floating numbers unless it is a declared constant."""
    if isinstance(value, jax.core.Tracer):
        return value
    if isinstance(value, str):
        raise ValueError(
            f"{slot.name} was given {value}; expected numbers for {slot.support!r}; pass a "
            "number or an array."
        )
    try:
        value = to_numbers(value, slot.name)
    except ValueError as reason:
        raise ValueError(
            f"{slot.name} was not given an array of numbers for {slot.support!r}: {reason}"
        ) from None
    return (
        value.astype(float)
        if isinstance(slot.support, Support) and value.dtype.kind != "f"
        else value
    )


def broadcast_value(slot: Slot, value: Any, sizes: dict[str, int]) -> Any:
    """The value in full: a scalar of a shaped slot becomes what its support makes of it, once the
    sizes are known.
    """
    if not slot.has_shape:
        return value
    axes = slot.support.shape_axes
    if isinstance(value, jax.core.Tracer):
        if np.ndim(value) != len(axes):
            raise ValueError(
                f"{slot.name} was given one traced number; expected the shape of {slot.support!r}; "
                "pass the array in full."
            )
        return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)
    known = all(isinstance(axis, int) or axis in sizes for axis in axes)
    shape: Any = tuple(sizes.get(axis, axis) if known else 2 for axis in axes)
    refuse_too_large(slot.name, shape, 8, "declare smaller dimensions")
    if not isinstance(slot.support, Support):  # a declared constant
        return np.full(shape, value) if known and value.ndim < len(axes) else value
    trial = value
    if value.ndim < len(axes):
        trial = slot.support.start(value, shape).astype(value.dtype)
    elif slot.role == PARAMETER and not axes:
        trial = slot.support.start(value, ()).astype(value.dtype)
    slot.support.check(trial, slot.name)
    if value.ndim < len(axes) and not known:
        return value
    if slot.role != PARAMETER:
        return trial
    inward = slot.support.inward(trial).astype(value.dtype)
    if not np.array_equal(inward, trial):
        moved = f"{slot.name} starts on the boundary of {slot.support!r} and was moved just inside."
        warnings.warn(moved, stacklevel=5)
    return inward


# -- leaves and static parts ---
class StaticArray:
    """An array of integers or booleans, compared and hashed by content so that it may be
    static.
    """

    def __init__(self, array: np.ndarray) -> None:
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
    """Whether a leaf is an array of floating numbers."""
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
        if type(leaf) is int and leaf.bit_length() > 31 and leaf != -(2**31):
            return _frozen(np.asarray(float(leaf)))
        if hasattr(leaf, "to_numpy") or (hasattr(leaf, "dtype") and hasattr(leaf, "shape")):
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "US":
                raise ValueError(
                    f"{name} holds an array of dtype {leaf.dtype}; expected numbers; code the "
                    "labels as integers first."
                )
            return _frozen(_in_range(to_numbers(leaf, name, allow_complex=True)))
        return leaf

    if isinstance(value, list):
        with contextlib.suppress(ValueError):  # rows of different lengths stay a list of them
            value = stack_entries(value)
    return jax.tree.map(settle, value)


def _in_range(array: np.ndarray) -> np.ndarray:
    """Integers beyond 32 bits as floating numbers: in single precision JAX would keep their lowest
    bits alone.
    """
    if array.dtype.kind not in "iu" or not array.size:
        return array
    limits = np.iinfo(np.int32)
    inside = limits.min <= array.min() and array.max() <= limits.max
    return array if inside else array.astype(float)


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
