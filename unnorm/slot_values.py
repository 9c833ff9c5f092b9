"""What was given for a slot of a declaration: an array of numbers, inside its support, in full."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm import signature
from unnorm.signature import COVARIATE, PARAMETER, Slot
from unnorm.supports import Support
from unnorm.values import at_rest


def accepted(slot: Slot, value: Any) -> Any:
    """A value given for a slot, at rest and inside its support; traced values are taken as they are."""
    if not slot.has_shape or isinstance(value, jax.core.Tracer):
        return value
    value = numbers(slot, at_rest(value, slot.name))
    if slot.role == COVARIATE:
        if not np.isfinite(value).all():
            raise ValueError(f"{slot.name} was given {value}; expected finite numbers; pass such.")
        return value.astype(float) if value.dtype.kind != "f" else value
    if value.ndim:
        signature.unify({}, slot, value.shape)  # its shape before its entries: a check may count on square matrices
        slot.support.check(value, slot.name)
    return value


def numbers(slot: Slot, value: Any) -> Any:
    """The value as one array, of floating numbers unless it is a declared constant."""
    if isinstance(value, jax.core.Tracer):
        return value
    try:
        value = np.asarray(value)
    except ValueError:
        value = np.asarray(None)  # rows of different lengths
    if value.dtype.kind not in "fiub":
        found = "no array of numbers" if value.dtype.kind == "O" else f"{value}"
        raise ValueError(
            f"{slot.name} was given {found}; expected numbers for {slot.support!r}; pass a number or an array."
        )
    return value.astype(float) if isinstance(slot.support, Support) and value.dtype.kind != "f" else value


def expanded(slot: Slot, value: Any, sizes: dict[str, int]) -> Any:
    """The value in full: a scalar of a shaped slot becomes what its support makes of it, once the sizes are known."""
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
