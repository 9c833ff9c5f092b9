"""The arguments of a density's function: their roles, their supports, their shapes and names."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unnorm.core.messages import choose_from, pluralize, printable, shown
from unnorm.supports.base import PyTreeSupport

VARIABLE, PARAMETER, CONSTANT, COVARIATE = "variable", "parameter", "constant", "covariate"
SUMMED = "summed"  # a variable that compiled code sums out: no user declares it


@dataclass(frozen=True)
class Slot:
    """One argument of a density's function: its public name, its own name, its part and its
    support.
    """

    name: str
    argument: str
    role: str
    support: Any  # a Support, an Annotation, or None for a constant without declared axes
    positional: bool = False

    @property
    def has_shape(self) -> bool:
        return self.support is not None and not isinstance(self.support, PyTreeSupport)


@dataclass(frozen=True)
class ClosedForm:
    """log Z as a density declares it: a function of some of its arguments, but no variable, by
    their names.
    """

    function: Callable = field(compare=False)
    arguments: tuple[str, ...]
    key: Any = None  # by which the function is compared

    def __post_init__(self) -> None:
        if self.key is None:
            object.__setattr__(self, "key", self.function)


def refuse_clashes(slots: tuple[Slot, ...]) -> None:
    """Refuse the names that a result could not hold."""
    names = [slot.name for slot in slots]
    axes = {
        axis
        for slot in slots
        if slot.support
        for axis in slot.support.axes
        if isinstance(axis, str)
    }
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"The name {name!r} is used twice in the density; expected different names; "
                "rename one of the two."
            )
    for name in [slot.name for slot in slots if slot.role == VARIABLE] + sorted(axes):
        if name in ("chain", "draw"):
            raise ValueError(
                f"The name {name!r} is reserved for the axes of draws; expected another name; "
                "rename it."
            )
    for slot in slots:
        if slot.role == VARIABLE and slot.name in axes:
            raise ValueError(
                f"Variable {slot.name} has the name of a dimension, which draws cannot hold; "
                "expected different names; rename one of them."
            )


def refuse_unknown(where: str, kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that the density does not have."""
    for name in given:
        if name not in known:
            raise ValueError(
                f"{where} was given {name!r}, which is no {kind} of the density; "
                f"{choose_from(name, known)}."
            )


def dimension_size(dimension: str, given: Any) -> int:
    """The size of a dimension that was given by its size or by its labels."""
    is_size = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if (
        not is_size
        and not isinstance(given, list | tuple | range)
        and getattr(given, "ndim", 0) != 1
    ):
        raise ValueError(
            f"Dimension {dimension!r} was given {shown(given)}; it must be a positive integer or "
            "a list of labels; correct it."
        )
    size = given if is_size else len(given)
    if size < 1:
        raise ValueError(
            f"Dimension {dimension!r} was given the size {size}; it must be a positive integer; "
            "correct it."
        )
    return int(size)


def dimension_labels(dimension: str, given: Iterable) -> tuple[str, ...]:
    """The labels of a dimension as words, each once."""
    labels = tuple(str(label) for label in given)
    if len(set(labels)) < len(labels):
        twice = next(label for i, label in enumerate(labels) if label in labels[:i])
        raise ValueError(
            f"Dimension {dimension!r} was given the label {twice!r} twice; expected each label "
            "once; rename one."
        )
    broken = next((label for label in labels if printable(label) != label), None)
    if broken is not None:
        raise ValueError(
            f"Dimension {dimension!r} was given the label {broken!r}, which holds a lone "
            "surrogate; expected text; decode it first."
        )
    return labels


def event_shape(slot: Slot, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The trailing part of a value's shape that is one event."""
    rank = len(slot.support.shape_axes)
    if len(shape) < rank:
        raise ValueError(
            f"{slot.name} has the shape {shape}; expected at least {pluralize(rank, 'axis')}, "
            f"because it is declared {slot.support!r}; add the missing axes."
        )
    return shape[len(shape) - rank :]


def unify(
    sizes: dict[str, int], slot: Slot, shape: tuple[int, ...], scalar_stands: bool = False
) -> None:
    """Add the dimensions that a value of this shape resolves, or say where it contradicts what is
    known.
    """
    axes = slot.support.shape_axes
    if scalar_stands and shape == ():
        return
    if len(shape) != len(axes):
        raise ValueError(
            f"{slot.name} has the shape {shape}; expected {pluralize(len(axes), 'axis')}, because "
            f"it is declared {slot.support!r}; reshape it."
        )
    for axis, size in zip(axes, shape, strict=True):
        known = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
        if known != size:
            of = f"axis {axes.index(axis)}" if isinstance(axis, int) else f"dimension {axis!r}"
            raise ValueError(
                f"{slot.name} has the shape {shape}, so that its {of} is {size}; expected {known} "
                "by the declaration or by what is given elsewhere; make the sizes agree."
            )


__all__ = [
    "CONSTANT", "COVARIATE", "PARAMETER", "SUMMED", "VARIABLE", "ClosedForm", "Slot",
    "dimension_labels", "dimension_size", "event_shape", "refuse_clashes", "refuse_unknown",
    "unify",
]  # fmt: skip
