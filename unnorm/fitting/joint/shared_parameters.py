"""Densities that share parameters: parameters of equal name are one parameter, with one value."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from unnorm.declaration.density import Density


@jax.tree_util.register_pytree_node_class
class Densities:
    """Several densities as one thing with parameters, so that what is estimated is one vector."""

    def __init__(self, parts: tuple[Density, ...]) -> None:
        self.parts = parts

    def tree_flatten(self) -> tuple:
        return (self.parts,), None

    @classmethod
    def tree_unflatten(cls, _, children) -> Any:
        return cls(*children)

    def _union(self, what: str) -> dict[str, Any]:
        return {
            name: value
            for part in reversed(self.parts)
            for name, value in getattr(part, what).items()
        }

    def _ordered(self, found: dict[str, Any]) -> dict[str, Any]:
        return {name: found[name] for part in self.parts for name in part.supports}

    @property
    def name(self) -> str:
        return " and ".join(part.name for part in self.parts)

    @property
    def supports(self) -> dict[str, Any]:
        return self._ordered(self._union("supports"))

    @property
    def parameters(self) -> dict[str, Any]:
        return self._ordered(self._union("parameters"))

    @property
    def variables(self) -> dict[str, Any]:
        return self._union("variables")

    @property
    def covariates(self) -> dict[str, Any]:
        return self._union("covariates")

    def free(self) -> dict[str, Any]:
        return self._ordered(
            {name: value for part in reversed(self.parts) for name, value in part.free().items()}
        )

    def at(self, free: dict[str, Any]) -> "Densities":
        return Densities(
            tuple(part.at({name: free[name] for name in part.supports}) for part in self.parts)
        )


def sharing(ps: list[Density]) -> list[Density]:
    """The densities with one value for each shared parameter: a bound value goes before a declared
    start.
    """
    values: dict[str, tuple[bool, Any]] = {}
    first: dict[str, Density] = {}
    for p in ps:
        for name in p.supports:
            here = first.setdefault(name, p)
            _refuse_unlike(name, here, p)
            value, bound = p.parameters[name], name in p.bound
            if value is not None and (name not in values or (bound and not values[name][0])):
                values[name] = bound, value
            elif bound and not np.array_equal(values[name][1], value):
                raise ValueError(
                    f"Parameter {name} is bound to one value in {here.name} and to another in "
                    f"{p.name}; expected one value; bind the same in both."
                )
    return [_valued(p, values) for p in ps]


def _valued(p: Density, values: dict[str, tuple[bool, Any]]) -> Density:
    own = {name: value for name, (_, value) in values.items() if name in p.supports}
    return p.bind(**own) if own else p


def _refuse_unlike(name: str, one: Density, other: Density) -> None:
    supports = [replace(p.supports[name], axes=()) for p in (one, other)]
    shapes = [np.shape(p.parameters[name]) for p in (one, other)]
    missing = any(p.parameters[name] is None for p in (one, other))
    if supports[0] == supports[1] and (shapes[0] == shapes[1] or missing):
        return
    raise ValueError(
        f"Parameter {name} is {one.supports[name]!r} of the shape {shapes[0]} in {one.name} and "
        f"{other.supports[name]!r} of the shape {shapes[1]} in {other.name}; expected equal "
        "supports and shapes, because equal names are one parameter; rename one with p.rename(...)."
    )


__all__ = ["Densities", "sharing"]
