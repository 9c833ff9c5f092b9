"""Quantities that the function behind a density computes besides its value, such as NumPyro's
deterministic sites.

A function that has some defines `deterministics(*positional, **named) -> {name: array}`, called as
the function is, and `deterministic_axes`, the axes of each by name: integers or names of
dimensions.
"""

from typing import Any

import jax

from unnorm.supports.base import Axis


class Deterministic:
    """One such quantity, as a function of an event of the whole density.

    Args:
        whole: the density.
        factor: the factor of it whose function computes the quantity, or the density itself.
        name: of the quantity.
    """

    def __init__(self, whole: Any, factor: Any, name: str) -> None:
        self.variables, self.factor, self.name = tuple(whole.variables), factor, name

    def __call__(self, *event: Any) -> jax.Array:
        given = dict(zip(self.variables, event, strict=True))
        own = {name: given[name] for name in self.factor.variables}
        positional, named = self.factor.arguments_at(own)
        return self.factor.function.deterministics(*positional, **named)[self.name]

    def __hash__(self) -> int:
        return hash((id(self.factor), self.name))

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Deterministic):
            return False
        mine, theirs = (self.variables, self.name), (other.variables, other.name)
        return self.factor is other.factor and mine == theirs


def deterministics_of(p: Any) -> dict[str, tuple[Deterministic, tuple[Axis, ...]]]:
    """Every such quantity of a density by name: the function of an event, and its axes."""
    return {
        name: (Deterministic(p, factor, name), axes)
        for factor in _factors(p)
        for name, axes in getattr(factor.function, "deterministic_axes", {}).items()
        if name not in p.variables
    }


def _factors(p: Any) -> list:
    factors = getattr(p, "factors", None)
    return [p] if factors is None else [part for factor in factors for part in _factors(factor)]


__all__ = ["Deterministic", "deterministics_of"]
