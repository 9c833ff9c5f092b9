"""Products and powers of densities: each result is a Density again."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.density import Density, Structure
from unnorm.signature import CONSTANT, PARAMETER, VARIABLE, refuse_clashes, refuse_unknown
from unnorm.supports import Real, Support, _Real


@jax.tree_util.register_pytree_node_class
class Product(Density):
    """The weighted product of its factors, Σ_i power_i log p̃_i: a product of experts, or a power of one density.

    Equal variable names are one variable and need equal supports; equal parameter names are one parameter; constants
    stay private to their factor.

    References:
        Hinton (2002), Neural Computation 14, 1771-1800, doi:10.1162/089976602760128018.
    """

    def __init__(self, factors: tuple[Density, ...], powers: tuple[Any, ...]):
        self._with(_agreed(factors), tuple(power if isinstance(power, jax.core.Tracer) else np.asarray(power, float) for power in powers))

    def _with(self, factors: tuple[Density, ...], powers: tuple) -> "Product":
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "powers", powers)
        return self

    def tree_flatten(self):
        return (self.factors, self.powers), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return object.__new__(cls)._with(*children)

    def __reduce__(self):
        return Product, (self.factors, self.powers)

    # -- what it is: the union of its factors ---------------------------------------------------------------------------
    @property
    def _structure(self) -> Structure:
        parts = [factor._structure for factor in self.factors]
        slots = {slot.name: slot for part in reversed(parts) for slot in part.slots if slot.role != CONSTANT}
        ordered = dict.fromkeys(slot.name for part in parts for slot in part.slots if slot.role != CONSTANT)
        return Structure(
            function=None,
            slots=tuple(slots[name] for name in ordered),
            sizes=tuple(sorted({axis: size for part in parts for axis, size in part.sizes}.items())),
            labels=tuple(sorted({axis: labels for part in parts for axis, labels in part.labels}.items())),
            bound=frozenset().union(*(part.bound for part in parts)),
        )

    @property
    def _held(self):
        names = {slot.name for slot in self._structure.slots}
        return {name: held for factor in reversed(self.factors) for name, held in factor._held.items() if name in names}

    @property
    def name(self) -> str:
        names = [
            factor.name if power == 1 else f"{factor.name}**{power:g}"
            for factor, power in zip(self.factors, self.powers, strict=True)
            if not isinstance(power, jax.core.Tracer)
        ]
        return " * ".join(names)

    @property
    def constants(self) -> dict[str, Any]:
        """The constants of the factors, as ``factor number.name``."""
        return {f"{i}.{name}": value for i, factor in enumerate(self.factors) for name, value in factor.constants.items()}

    # -- what it does: each factor its part ------------------------------------------------------------------------------
    def _each(self, method: str, values: Mapping[str, Any]) -> "Product":
        """Call a method of every factor with the names that this factor knows."""
        changed = []
        for factor in self.factors:
            known = set(factor.dimensions) if method == "with_dimensions" else {s.name for s in factor._structure.slots if s.role != CONSTANT}
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
        """Return the density of the other variables given the values of these; a factor left without any is a constant."""
        refuse_unknown("given", "variable", values, self.variables)
        kept, powers = [], []
        for factor, power in zip(self.factors, self.powers, strict=True):
            own = {name: value for name, value in values.items() if name in factor.variables}
            if set(own) != set(factor.variables):
                kept.append(factor.given(**own) if own else factor)
                powers.append(power)
        if not kept:
            raise ValueError("given() was passed every variable; leave at least one to the density.")
        return Product(tuple(kept), tuple(powers))

    def rename(self, **names: str) -> "Product":
        """Return the product with variables or parameters renamed, in every factor that has them."""
        refuse_unknown("rename", "name", names, {slot.name for slot in self._structure.slots})
        return self._each("rename", names)

    def with_dimensions(self, **dimensions: Any) -> "Product":
        """Return the product with dimensions of these sizes or labels."""
        refuse_unknown("with_dimensions", "dimension", dimensions, self.dimensions)
        return self._each("with_dimensions", dimensions)

    def resolved(self, shapes: Mapping[str, tuple[int, ...]]) -> "Product":
        """Return the product with its open dimensions taken from event shapes."""
        return Product(tuple(factor.resolved(shapes) for factor in self.factors), self.powers)

    def bare(self) -> "Product":
        """Return the product as compiled code takes it."""
        return object.__new__(Product)._with(tuple(factor.bare() for factor in self.factors), self.powers)

    def at(self, free: Mapping[str, Any]) -> "Product":
        """Return the product at these unconstrained parameters; traceable."""
        own = [{name: value for name, value in free.items() if name in factor.supports} for factor in self.factors]
        moved = tuple(factor.at(part) for factor, part in zip(self.factors, own, strict=True))
        return object.__new__(Product)._with(moved, self.powers)

    def _overridden(self, values: Mapping[str, Any]) -> "Product":
        return self.bind(**values) if values else self

    def log_density(self, event: Mapping[str, Any]) -> jax.Array:
        """The weighted sum of the factors' log-densities at ONE event; minus infinity stays so at power 0."""
        total = jnp.zeros(())
        for factor, power in zip(self.factors, self.powers, strict=True):
            names = factor.variables | factor.covariates
            value = factor.log_density({name: event[name] for name in names})
            outside = value == -jnp.inf
            total += jnp.where(outside, -jnp.inf, power * jnp.where(outside, 0.0, value))
        return total


def _agreed(factors: tuple[Density, ...]) -> tuple[Density, ...]:
    """Return the factors with common dimensions, labels and parameter values, or say where they contradict."""
    declared: dict[str, tuple[str, Support]] = {}
    for factor in factors:
        for slot in factor._structure.slots:
            if slot.role == CONSTANT:
                continue
            role, support = declared.setdefault(slot.name, (slot.role, slot.support))
            if (role, support) != (slot.role, slot.support):
                raise ValueError(
                    f"{slot.name} is the {role} {support!r} in one factor and the {slot.role} {slot.support!r} in another; "
                    "expected the same in both; rename one with p.rename(...)."
                )
    refuse_clashes(tuple(slot for slot in _slots_once(factors)))
    sizes, labels = _shared_sizes(factors), {a: v for f in reversed(factors) for a, v in f.labels.items()}
    factors = tuple(f.with_dimensions(**{a: labels.get(a, s) for a, s in sizes.items() if a in f.dimensions}) for f in factors)
    return _shared_parameters(factors)


def _slots_once(factors):
    return {slot.name: slot for factor in factors for slot in factor._structure.slots if slot.role != CONSTANT}.values()


def _shared_sizes(factors: tuple[Density, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for factor in factors:
        for axis, size in factor.dimensions.items():
            if size is not None and sizes.setdefault(axis, size) != size:
                raise ValueError(f"Dimension {axis!r} is {sizes[axis]} in one factor and {size} in another; make them agree.")
    return sizes


def _shared_parameters(factors: tuple[Density, ...]) -> tuple[Density, ...]:
    """One value for each shared parameter: a bound value goes before a default, and two bound values must be equal."""
    values: dict[str, Any] = {}
    for factor in sorted(factors, key=lambda f: not f.bound):
        for name, value in factor.parameters.items():
            known = values.get(name)
            if value is None or known is not None and (name not in factor.bound):
                continue
            if known is not None and not isinstance(known, jax.core.Tracer) and not _equal(known, value):
                raise ValueError(
                    f"Parameter {name} has one value in one factor and another in the other; bind the same value in both."
                )
            values[name] = value
    bound = frozenset().union(*(factor.bound for factor in factors))
    shared = {n for n in values if sum(n in f.supports for f in factors) > 1}
    result = []
    for factor in factors:
        own = {name: values[name] for name in shared if name in factor.supports}
        structure = replace(factor._structure, bound=factor.bound | (bound & set(own))) if not isinstance(factor, Product) else None
        result.append(factor._rebuilt(structure, factor._values | own) if structure and own else factor._overridden(own))
    return tuple(result)


def _equal(one: Any, other: Any) -> bool:
    leaves = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves[0]) == len(leaves[1]) and all(
        np.array_equal(a, b) for a, b in zip(*leaves, strict=True)
    )


def multiply(p: Density, q: Density) -> Product:
    """`p * q`: the product of experts."""
    if not isinstance(q, Density):
        raise TypeError(f"A density was multiplied by {q!r}; expected another density; for a power write p ** beta.")
    return Product((p, q), (1.0, 1.0))


def power(p: Density, beta: Any) -> Product:
    """`p ** beta`: the density tempered; at power 0 it is flat on its support."""
    if np.shape(beta) != () or not (isinstance(beta, jax.core.Tracer) or np.isfinite(beta)):
        raise ValueError(f"beta is {beta!r}; expected one finite number as the power of a density.")
    return Product((p,), (beta,))


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
        if not isinstance(p.variables[name], _Real) or support.discrete or support.free_shape((2,)) != (2,) or support == Real:
            raise ValueError(
                f"truncate was asked for {name} from {p.variables[name]!r} to {support!r}; expected a Real variable and "
                "un.Positive or un.Interval; declare the density anew otherwise."
            )
    if isinstance(p, Product):
        own = [{n: s for n, s in supports.items() if n in factor.variables} for factor in p.factors]
        return Product(tuple(truncate(f, **part) for f, part in zip(p.factors, own, strict=True)), p.powers)
    slots = tuple(
        replace(slot, support=replace(supports[slot.name], axes=slot.support.axes))
        if slot.role == VARIABLE and slot.name in supports
        else slot
        for slot in p._structure.slots
    )
    return p._rebuilt(replace(p._structure, slots=slots))


# The operators are attached here, so that density.py need not know of the algebra built on it.
Density.__mul__, Density.__pow__ = multiply, power

__all__ = ["PARAMETER", "Product", "truncate"]
