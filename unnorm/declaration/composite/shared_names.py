"""What the factors of a product share: one size, one label list and one value for each name, or a
sentence.
"""

from typing import Any

import jax
import numpy as np

from unnorm.declaration.density import Density
from unnorm.declaration.slots import CONSTANT, refuse_clashes
from unnorm.supports.base import Support


def unify_factors(factors: tuple[Density, ...]) -> tuple[Density, ...]:
    """Return the factors with common dimensions, labels and parameter values, or say where they
    contradict.
    """
    declared: dict[str, tuple[str, Support]] = {}
    for factor in factors:
        for slot in factor._structure.slots:
            if slot.role == CONSTANT:
                continue
            role, support = declared.setdefault(slot.name, (slot.role, slot.support))
            if (role, support) != (slot.role, slot.support):
                raise ValueError(
                    f"{slot.name} is the {role} {support!r} in one factor and the {slot.role} "
                    f"{slot.support!r} in another; expected the same in both; rename one with "
                    "p.rename(...)."
                )
    refuse_clashes(tuple(slot for slot in _slots_once(factors)))
    sizes, labels = _unify_sizes(factors), _unify_labels(factors)
    known = sizes | labels
    own = [
        {axis: given for axis, given in known.items() if axis in factor.dimensions}
        for factor in factors
    ]
    sized = tuple(
        f.with_dimensions(**given) if given else f for f, given in zip(factors, own, strict=True)
    )
    return _unify_parameters(sized)


def _slots_once(factors):
    return {
        slot.name: slot
        for factor in factors
        for slot in factor._structure.slots
        if slot.role != CONSTANT
    }.values()


def _unify_sizes(factors: tuple[Density, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for factor in factors:
        for axis, size in factor.dimensions.items():
            if size is not None and sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"Dimension {axis!r} is {sizes[axis]} in one factor and {size} in another; "
                    "expected one size; make them agree."
                )
    return sizes


def _unify_labels(factors: tuple[Density, ...]) -> dict[str, tuple]:
    labels: dict[str, tuple] = {}
    for factor in factors:
        for axis, given in factor.labels.items():
            if labels.setdefault(axis, given) != given:
                raise ValueError(
                    f"Dimension {axis!r} has different labels in two factors; expected the same; "
                    "use one set of labels."
                )
    return labels


def _unify_parameters(factors: tuple[Density, ...]) -> tuple[Density, ...]:
    """One value for each shared parameter: a bound value goes before a default, and two bound
    values must be equal.
    """
    bound: dict[str, Any] = {}
    default: dict[str, Any] = {}
    for factor in factors:
        for name, value in factor.parameters.items():
            if name in factor.bound and not _equal(bound.setdefault(name, value), value):
                raise ValueError(
                    f"Parameter {name} has different values in two factors; expected one value; "
                    "bind the same in both."
                )
            if value is not None:
                default.setdefault(name, value)
    shared = {name for name in default if sum(name in factor.supports for factor in factors) > 1}
    values = {name: (default | bound)[name] for name in shared}
    return tuple(factor._sharing(values, frozenset(shared & set(bound))) for factor in factors)


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are the same; of traced ones it is not known, and taken to be so."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves + others)
    return traced or (len(leaves) == len(others) and all(map(np.array_equal, leaves, others)))
