"""Products and powers of densities: each result is a Density again."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import shown
from unnorm.core.validation import verb
from unnorm.declaration.composite.shared_names import unify_factors
from unnorm.declaration.density import Density
from unnorm.declaration.slots import CONSTANT, PARAMETER, VARIABLE, refuse_unknown
from unnorm.declaration.structure import Structure
from unnorm.supports import Real, RealSupport, Support


@jax.tree_util.register_pytree_node_class
class Product(Density):
    """The weighted product of its factors, Σ_i power_i log p̃_i: a product of experts, or a power
    of one density.

    Equal variable names are one variable and need equal supports; equal parameter names are one
    parameter; constants stay private to their factor.

    References:
        Hinton (2002), Neural Computation 14, 1771-1800, doi:10.1162/089976602760128018.
    """

    factors: tuple[Density, ...]
    powers: tuple[Any, ...]

    def __init__(self, factors: tuple[Density, ...], powers: tuple[Any, ...]) -> None:
        powers = tuple(
            p if isinstance(p, jax.core.Tracer) else np.asarray(p, float) for p in powers
        )
        self._with(unify_factors(factors), powers)

    def _with(self, factors: tuple[Density, ...], powers: tuple) -> "Product":
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "powers", powers)
        return self

    def tree_flatten(self) -> tuple:
        return (self.factors, self.powers), None

    @classmethod
    def tree_unflatten(cls, _, children) -> "Product":
        return object.__new__(cls)._with(*children)

    def __reduce__(self) -> tuple:
        return Product, (self.factors, self.powers)

    # -- what it is: the union of its factors ------------------------------------------------------
    @property
    def _structure(self) -> Structure:  # type: ignore[override]
        parts = [factor._structure for factor in self.factors]
        slots = {
            slot.name: slot
            for part in reversed(parts)
            for slot in part.slots
            if slot.role != CONSTANT
        }
        ordered = dict.fromkeys(
            slot.name for part in parts for slot in part.slots if slot.role != CONSTANT
        )
        sizes = {axis: size for part in parts for axis, size in part.sizes}
        labels = {axis: names for part in parts for axis, names in part.labels}
        return Structure(
            function=None,
            slots=tuple(slots[name] for name in ordered),
            sizes=tuple(sorted(sizes.items())),
            labels=tuple(sorted(labels.items())),
            bound=frozenset().union(*(part.bound for part in parts)),
        )

    @property
    def _held(self):  # type: ignore[override]
        found: dict[str, Any] = {}
        for factor in reversed(self.factors):
            own = {
                slot.name for slot in factor._structure.slots if slot.role != CONSTANT
            }  # constants stay private
            found |= {name: held for name, held in factor._held.items() if name in own}
        return found

    @property
    def name(self) -> str:
        def part(factor: Density, power: Any) -> str:
            name = f"({factor.name})" if isinstance(factor, Product) else factor.name
            if isinstance(power, jax.core.Tracer) or np.shape(power) != ():
                return f"{name}**beta"
            return name if power == 1 else f"{name}**{float(power):g}"

        return " * ".join(map(part, self.factors, self.powers))

    @property
    def constants(self) -> dict[str, Any]:
        """The constants of the factors, as ``factor number.name``."""
        numbered = enumerate(self.factors)
        return {
            f"{i}.{name}": value
            for i, factor in numbered
            for name, value in factor.constants.items()
        }

    # -- what it does: each factor its part --------------------------------------------------------
    def _each(self, method: str, values: Mapping[str, Any]) -> "Product":
        """Call a method of every factor with the names that this factor knows."""
        changed = []
        for factor in self.factors:
            named = {slot.name for slot in factor._structure.slots if slot.role != CONSTANT}
            known = set(factor.dimensions) if method == "with_dimensions" else named
            own = {name: value for name, value in values.items() if name in known}
            changed.append(getattr(factor, method)(**own) if own else factor)
        return Product(tuple(changed), self.powers)

    def bind(self, **values: Any) -> "Product":
        """Return the product with these parameter values, in every factor that has them."""
        refuse_unknown("bind", "parameter", values, self.supports)
        return self._each("bind", values)

    def fix(self, **values: Any) -> "Product":
        """Return the product in which these parameters are constants."""
        refuse_unknown("fix", "parameter", values, self.supports)
        return self._each("fix", values)

    def given(self, **values: Any) -> "Product":
        """Return the density of the other variables given these or covariates; a factor without any
        is a constant.
        """
        refuse_unknown("given", "variable or covariate", values, self.variables | self.covariates)
        kept, powers = [], []
        for factor, power in zip(self.factors, self.powers, strict=True):
            known = factor.variables | factor.covariates
            own = {name: value for name, value in values.items() if name in known}
            if not set(factor.variables) <= set(own):
                kept.append(factor.given(**own) if own else factor)
                powers.append(power)
        if not kept:
            raise ValueError(
                "given() was passed every variable; at least one must stay free; leave one out."
            )
        return Product(tuple(kept), tuple(powers))

    def rename(self, **names: str) -> "Product":
        """Return the product with variables or parameters renamed, in every factor that has
        them.
        """
        known = {slot.name for slot in self._structure.slots}
        refuse_unknown("rename", "name", names, known)
        after = [names.get(name, name) for name in known]
        for name in names.values():
            if after.count(name) > 1:
                raise ValueError(
                    f"rename would give the name {name!r} to two arguments; expected different "
                    "names; rename a variable before the product to identify it with another."
                )
        return self._each("rename", names)

    def with_dimensions(self, **dimensions: Any) -> "Product":
        """Return the product with dimensions of these sizes or labels."""
        refuse_unknown("with_dimensions", "dimension", dimensions, self.dimensions)
        return self._each("with_dimensions", dimensions)

    def resolved(self, shapes: Mapping[str, tuple[int, ...]]) -> "Product":
        """Return the product with its open dimensions taken from event shapes."""
        return Product(tuple(factor.resolved(shapes) for factor in self.factors), self.powers)

    def on_chart(self) -> "Product":
        return self._with(tuple(factor.on_chart() for factor in self.factors), self.powers)

    def for_jit(self) -> "Product":
        """Return the product as compiled code takes it."""
        return object.__new__(Product)._with(
            tuple(factor.for_jit() for factor in self.factors), self.powers
        )

    def at(self, free: Mapping[str, Any]) -> "Product":
        """Return the product at these unconstrained parameters; traceable."""
        own = [
            {name: value for name, value in free.items() if name in factor.supports}
            for factor in self.factors
        ]
        moved = tuple(factor.at(part) for factor, part in zip(self.factors, own, strict=True))
        return object.__new__(Product)._with(moved, self.powers)

    def _at_row(self, values: Mapping[str, Any]) -> "Product":
        return object.__new__(Product)._with(
            tuple(factor._at_row(values) for factor in self.factors), self.powers
        )

    def _observing(self, names: tuple[str, ...]) -> "Product":
        return object.__new__(Product)._with(
            tuple(factor._observing(names) for factor in self.factors), self.powers
        )

    def _overridden(self, values: Mapping[str, Any]) -> "Product":
        return self.bind(**values) if values else self

    def _sharing(self, values: Mapping[str, Any], bound: frozenset[str]) -> "Product":
        moved = tuple(factor._sharing(values, bound) for factor in self.factors)
        return object.__new__(Product)._with(moved, self.powers)

    def log_density(self, event: Mapping[str, Any]) -> jax.Array:
        """The weighted sum of the factors' log-densities at ONE event; minus infinity stays so at
        power 0.
        """
        total = jnp.zeros(())
        for factor, power in zip(self.factors, self.powers, strict=True):
            names = factor.variables | factor.covariates
            value = factor.log_density({name: event[name] for name in names})
            outside = value == -jnp.inf
            total += jnp.where(outside, -jnp.inf, power * jnp.where(outside, 0.0, value))
        return total


def multiply(p: Density, q: Density) -> Product:
    """`p * q`: the product of experts."""
    if not isinstance(q, Density):
        raise TypeError(
            f"A density was multiplied by {shown(q)}; expected another density; write p ** beta "
            "for a power."
        )
    return Product((p, q), (1.0, 1.0))


def power(p: Density, beta: Any) -> Product:
    """`p ** beta`: the density tempered; at power 0 it is flat on its support."""
    traced = isinstance(beta, jax.core.Tracer)
    number = traced or (not isinstance(beta, str) and np.asarray(beta).dtype.kind in "fiu")
    if not number or np.shape(beta) != () or not (traced or np.isfinite(beta)):
        raise ValueError(
            f"The power of a density is {shown(beta)}; it must be one finite number; pass a scalar."
        )
    return Product((p,), (beta,))


@verb
def truncate(p: Density, **supports: Support) -> Density:
    """Return the density restricted to smaller supports: ``un.truncate(p, x=un.Interval(0, 1))``.

    Args:
        p: a density whose named variables are Real.
        supports: for each variable its new support, Positive or Interval; its axes are kept.

    Raises:
        ValueError: the variable is not there, or is not Real.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> float(un.truncate(normal, x=un.Positive)(-1.0))
        -inf
    """
    refuse_unknown("truncate", "variable", supports, p.variables)
    for name, support in supports.items():
        if not isinstance(p.variables[name], RealSupport) or not _entrywise_bounds(support):
            raise ValueError(
                f"truncate was asked for {name} from {p.variables[name]!r} to {shown(support)}; "
                "expected a Real variable and un.Positive or un.Interval; declare the density on "
                "the smaller support otherwise."
            )
    if isinstance(p, Product):
        own = [{n: s for n, s in supports.items() if n in factor.variables} for factor in p.factors]
        cut = tuple(truncate(f, **part) for f, part in zip(p.factors, own, strict=True))
        return Product(cut, p.powers)
    slots = tuple(
        replace(slot, support=replace(supports[slot.name], axes=slot.support.axes))
        if slot.role == VARIABLE and slot.name in supports
        else slot
        for slot in p._structure.slots
    )
    return p._rebuilt(replace(p._structure, slots=slots, log_z=None))


def _entrywise_bounds(support: Any) -> bool:
    """Whether the support bounds each entry by itself: such a one cuts a piece out of the real
    line.
    """
    if not isinstance(support, Support) or support.discrete or support.needs_axis:
        return False
    return support.entry_bounds(()) != Real.entry_bounds(())


# The operators are attached here, so that density.py need not know of the algebra built on it.
Density.__mul__, Density.__pow__ = multiply, power  # type: ignore[method-assign]

__all__ = ["PARAMETER", "Product", "truncate"]
