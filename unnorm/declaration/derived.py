"""Quantities that the function behind a density computes besides its value, such as NumPyro's
deterministic sites.

A function that has some defines `derived(*positional, **named) -> {name: array}`, called as the
function is, and `derived_axes`, the axes of each by name: integers or names of dimensions.
"""

from collections.abc import Mapping
from typing import Any

import jax

from unnorm.declaration.density import Density
from unnorm.supports.base import Axis


class DerivedQuantity:
    """One such quantity, as a function of an event of the whole density."""

    def __init__(self, whole: Density, factor: Density, name: str) -> None:
        self.variables, self.factor, self.name = tuple(whole.variables), factor, name

    def __call__(self, *event: Any) -> jax.Array:
        given = dict(zip(self.variables, event, strict=True))
        own = {name: given[name] for name in self.factor.variables}
        positional, named = self.factor.arguments_at(own)
        return self.factor.function.derived(*positional, **named)[self.name]  # type: ignore[union-attr]

    def __hash__(self) -> int:
        return hash((id(self.factor), self.name))

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, DerivedQuantity):
            return False
        mine, theirs = (self.variables, self.name), (other.variables, other.name)
        return self.factor is other.factor and mine == theirs


def derived_axes(p: Density) -> dict[str, tuple[Axis, ...]]:
    """The axes of every derived quantity, by name."""
    found: dict[str, tuple[Axis, ...]] = {}
    for factor in _factors(p):
        found |= dict(getattr(factor.function, "derived_axes", {}))
    return {name: axes for name, axes in found.items() if name not in p.variables}


def derived_quantities(p: Density) -> Mapping[str, DerivedQuantity]:
    """Every derived quantity by name, as a function of an event."""
    known = derived_axes(p)
    return {
        name: DerivedQuantity(p, factor, name)
        for factor in _factors(p)
        for name in getattr(factor.function, "derived_axes", {})
        if name in known
    }


def _factors(p: Density) -> list[Density]:
    factors = getattr(p, "factors", None)
    return [p] if factors is None else [part for factor in factors for part in _factors(factor)]


__all__ = ["DerivedQuantity", "derived_axes", "derived_quantities"]
