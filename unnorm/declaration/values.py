"""What was given for a slot of a declaration: an array of numbers, inside its support, in full."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.containers import axis_labels, oriented, to_numbers
from unnorm.core.messages import listed
from unnorm.core.validation import refuse_too_large
from unnorm.declaration import signature
from unnorm.declaration.leaves import at_rest
from unnorm.declaration.signature import COVARIATE, PARAMETER, Slot
from unnorm.supports import Support


def accepted(slot: Slot, value: Any, labels: Mapping[str, tuple]) -> Any:
    """A value given for a slot, at rest and inside its support; traced values are taken as they
    are.
    """
    if not slot.has_shape or isinstance(value, jax.core.Tracer):
        return value
    value = oriented(value, slot.name, slot.support.shape_axes)
    _refuse_other_labels(slot, value, labels)
    value = numbers(slot, at_rest(value, slot.name))
    if slot.role == COVARIATE:
        if not np.isfinite(value).all():
            raise ValueError(f"{slot.name} was given {value}; expected finite numbers; pass such.")
        return value.astype(float) if value.dtype.kind != "f" else value
    if value.ndim:
        signature.unify(
            {}, slot, value.shape
        )  # its shape before its entries: a check may count on square matrices
        slot.support.check(value, slot.name)
    return value


def _refuse_other_labels(slot: Slot, value: Any, labels: Mapping[str, tuple]) -> None:
    """Refuse a container whose labels are not those of the dimension, or stand in another order."""
    for place, axis in enumerate(slot.support.shape_axes):
        known, found = labels.get(axis), axis_labels(value, place)
        if known is not None and found is not None and list(known) != found:
            raise ValueError(
                f"{slot.name} has the labels {listed(found)} along {axis!r}; expected "
                f"{listed(list(known))}; "
                "reindex it, or pass its values alone."
            )


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
            f"{slot.name} was given no array of numbers for {slot.support!r}: {reason}"
        ) from None
    return (
        value.astype(float)
        if isinstance(slot.support, Support) and value.dtype.kind != "f"
        else value
    )


def expanded(slot: Slot, value: Any, sizes: dict[str, int]) -> Any:
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
    shape = tuple(sizes.get(axis, axis) if known else 2 for axis in axes)
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
