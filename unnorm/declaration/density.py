"""The declaration: a Python function of one event becomes a Density.

The signature is the declaration: positional arguments are variables, keyword-only ones are
parameters (a support), constants (`un.Constant[...]` or no annotation) or covariates
(`un.Covariate[...]`).
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from unnorm.core.compilation.closed_over_arrays import call_by_precision
from unnorm.core.compilation.policy import compiled
from unnorm.core.containers import to_numbers
from unnorm.core.messages import shown
from unnorm.core.trace_errors import evaluate, explain_derivative_errors
from unnorm.declaration import signature
from unnorm.declaration.batching import joint_states, over_events
from unnorm.declaration.slots import (
    CONSTANT,
    COVARIATE,
    PARAMETER,
    SUMMED,
    VARIABLE,
    ClosedForm,
    Slot,
    dimension_labels,
    dimension_size,
    event_shape,
    refuse_clashes,
    refuse_unknown,
    unify,
)
from unnorm.declaration.structure import Declaration, Structure
from unnorm.declaration.values import Held, check_value, hold, in_label_order, join
from unnorm.supports.base import Annotation, PyTreeSupport, Support


@compiled(static_argnames="supports")
def unconstrain_all(supports: tuple[tuple[str, Support], ...], values: dict) -> dict:
    """The unconstrained coordinates of values by name, in one program."""
    return {name: support.unconstrain(values[name]) for name, support in supports}


@compiled(static_argnames="supports")
def constrain_all(supports: tuple[tuple[str, Support], ...], free: dict) -> dict:
    """The values of unconstrained coordinates by name, in one program."""
    return {name: support.constrain(free[name]) for name, support in supports}


@jax.tree_util.register_pytree_node_class
class Density(Declaration):
    """A density known up to a constant: p(x) = exp(f(x; parameters)) / Z.

    Args:
        function: takes ONE event (its variables, parameters, constants and covariates by name) and
            returns the scalar log-density up to a constant.
        variables: what is sampled, ``{name: support}``, in the order of the function's positional
            arguments.
        parameters: what `fit` learns, ``{name: support}`` or ``{name: (support, start)}``.
        constants: ``{name: value}`` or ``{name: (un.Constant["d"], value)}``.
        covariates: ``{name: un.Covariate[...]}``, one value per event, given with the data.
        log_z: the closed form of log Z where there is one: a function of parameters, constants and
            covariates, by their names, or a number; 0.0 says that the density is normalized.
            Products, powers, truncation and `given` of a variable drop it.

    Raises:
        ValueError: a name, a support or a dimension that does not fit, in one sentence.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 2.0)}
        ... )
        >>> float(p(1.5))
        -3.0

    References:
        Hyvärinen (2005), Journal of Machine Learning Research 6, 695-709 (densities known up to a
        constant).
    """

    def __init__(
        self,
        function: Callable,
        variables: Mapping[str, Support] | None = None,
        parameters: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
        covariates: Mapping[str, Annotation] | None = None,
        log_z: Callable | float | None = None,
    ) -> None:
        slots, values = signature.from_mappings(
            function, variables, parameters, constants, covariates
        )
        closed = signature.closed_form(signature.function_name(function), log_z, slots)
        self._build(Structure(function, slots, log_z=closed), values)

    # Attached by declaration/composite/product.py, partition/normalized.py and bridges/.
    if TYPE_CHECKING:

        def __mul__(self, other: Any) -> "Density": ...

        def __pow__(self, beta: Any) -> "Density": ...

        def normalized(self, z: Any = None) -> "Density": ...

        def to_numpyro(self) -> Callable[[], None]: ...

    # -- values ------------------------------------------------------------------------------------
    def bind(self, **values: Any) -> "Density":
        """Return the density with these parameter values, which `fit` may still move.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(
            ...     lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": un.Positive}
            ... )
            >>> p.bind(rate=2.0).parameters["rate"].item()
            2.0
        """
        slots = self._slots(PARAMETER)
        refuse_unknown("bind", "parameter", values, slots)
        checked = {
            name: check_value(slots[name], value, self.labels) for name, value in values.items()
        }
        structure = replace(self._structure, bound=self._structure.bound | set(values))
        return self._rebuilt(structure, self._values | checked)

    def fix(self, **values: Any) -> "Density":
        """Return the density in which these parameters are constants with the given values."""
        slots = self._slots(PARAMETER)
        refuse_unknown("fix", "parameter", values, slots)
        checked = {
            name: check_value(slots[name], value, self.labels) for name, value in values.items()
        }
        return self._rebuilt(self._with_role(values, CONSTANT), self._values | checked)

    def given(self, **values: Any) -> "Density":
        """Return the density of the other variables, up to a constant, given the values of these or
        of covariates.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(
            ...     lambda y, *, z: -0.5 * (y - z) ** 2,
            ...     {"y": un.Real},
            ...     covariates={"z": un.Covariate},
            ... )
            >>> round(un.log_z(p.given(z=2.0), progress=False).value, 4)  # log sqrt(2 pi)
            0.9189
        """
        slots = self._slots(VARIABLE) | self._slots(COVARIATE)
        refuse_unknown("given", "variable or covariate", values, slots)
        sampled = self.variables
        if set(values) >= set(sampled):
            raise ValueError(
                f"given() was passed every variable ({', '.join(sampled)}); at least one must "
                "stay free; leave one out."
            )
        # An event is given in full; only a default may be one number for all.
        for name, value in values.items():
            unify(dict(self._structure.sizes), slots[name], np.shape(value))
        checked = {
            name: check_value(slots[name], value, self.labels) for name, value in values.items()
        }
        structure = self._with_role(values, CONSTANT)
        if set(values) & set(sampled):
            structure = replace(structure, log_z=None)  # it was that of all variables
        return self._rebuilt(structure, self._values | checked)

    def _at_row(self, values: Mapping[str, Any]) -> "Density":
        """`given` covariates, for compiled code: traceable, unchecked."""
        own = {name: value for name, value in values.items() if name in self.covariates}
        held = self._held | {name: hold(jnp.asarray(value)) for name, value in own.items()}
        return object.__new__(type(self))._set(self._with_role(own, CONSTANT), held)

    def _at_constants(self, values: Mapping[str, Any]) -> "Density":
        """The density with these values of its constants, for compiled code: traceable,
        unchecked.
        """
        held = self._held | {name: hold(jnp.asarray(value)) for name, value in values.items()}
        return object.__new__(type(self))._set(self._structure, held)

    def _observing(self, names: tuple[str, ...]) -> "Density":
        """The density of the other variables, these being covariates: log p̃(h | x) = log p̃(x, h)
        for each row x.
        """
        return object.__new__(type(self))._set(
            replace(self._with_role(names, COVARIATE), log_z=None), self._held
        )

    def _summing(self, names: tuple[str, ...]) -> "Density":
        """The density of the other variables, log Σ_h p̃(x, h), these having few states."""
        return object.__new__(type(self))._set(self._with_role(names, SUMMED), self._held)

    def _with_role(self, names, role: str) -> Structure:
        slots = tuple(
            replace(s, role=role) if s.name in names else s for s in self._structure.slots
        )
        return replace(self._structure, slots=slots, bound=self._structure.bound - set(names))

    def rename(self, **names: str) -> "Density":
        """Return the density with variables, parameters, constants or covariates renamed:
        ``p.rename(x="y")``.
        """
        known = {slot.name for slot in self._structure.slots}
        refuse_unknown("rename", "name", names, known)
        for name, new in names.items():
            if not isinstance(new, str) or not new:
                raise ValueError(
                    f"rename was given {shown(new)} for {name}; expected a new name; pass a "
                    "Python identifier as a string."
                )
        slots = tuple(
            replace(slot, name=names.get(slot.name, slot.name)) for slot in self._structure.slots
        )
        refuse_clashes(slots)
        values = {names.get(name, name): value for name, value in self._values.items()}
        bound = frozenset(names.get(name, name) for name in self._structure.bound)
        return self._rebuilt(replace(self._structure, slots=slots, bound=bound), values)

    def with_dimensions(self, **dimensions: Any) -> "Density":
        """Return the density with dimensions of these sizes, or of these labels:
        ``p.with_dimensions(d=8)``.
        """
        refuse_unknown("with_dimensions", "dimension", dimensions, self.dimensions)
        sizes, labels = dict(self._structure.sizes), dict(self._structure.labels)
        for name, given in dimensions.items():
            size = dimension_size(name, given)
            if sizes.setdefault(name, size) != size:
                raise ValueError(
                    f"Dimension {name!r} is {sizes[name]} by values bound before, and {size} was "
                    "given; expected one size; make the two agree."
                )
            if not isinstance(given, int | np.integer):
                labels[name] = dimension_labels(name, given)
        structure = replace(
            self._structure,
            sizes=tuple(sorted(sizes.items())),
            labels=tuple(sorted(labels.items())),
        )
        return self._rebuilt(structure)

    def resolved(self, shapes: Mapping[str, tuple[int, ...]]) -> "Density":
        """Return the density with its open dimensions taken from the event shapes of variables and
        covariates.
        """
        sizes = dict(self._structure.sizes)
        for slot in self._structure.slots:
            if slot.role in (VARIABLE, COVARIATE) and slot.name in shapes:
                unify(sizes, slot, shapes[slot.name])
        if sizes == dict(self._structure.sizes):
            return self
        return self._rebuilt(replace(self._structure, sizes=tuple(sorted(sizes.items()))))

    def on_chart(self) -> "Density":
        """Return the density over supports whose coordinates are R^n one to one, as integration
        needs them.
        """
        charts = {name: support.chart for name, support in self.variables.items()}
        if charts == self.variables:
            return self
        slots = tuple(
            replace(slot, support=charts[slot.name]) if slot.role == VARIABLE else slot
            for slot in self._structure.slots
        )
        return self._rebuilt(replace(self._structure, slots=slots))

    def for_jit(self) -> "Density":
        """Return the density as compiled code takes it: every value present, no labels, no record
        of what was bound.
        """
        for slot in self._structure.slots:
            if slot.role == PARAMETER and slot.name not in self._values:
                raise ValueError(
                    f"Parameter {slot.name} has no value; expected one; bind it by "
                    f"p.bind({slot.name}=...)."
                )
            if slot.has_shape and slot.role != COVARIATE:
                self._shape(slot)
        return object.__new__(type(self))._set(self._structure.for_jit(), self._held)

    def free(self) -> dict[str, Any]:
        """The unconstrained parameters, as optimisers and gradients see them: ``{name: array}``
        (JAX arrays).
        """
        self.for_jit()
        values, free, mapped = self.parameters, {}, {}
        for name, support in self.supports.items():
            if isinstance(support, PyTreeSupport):
                free[name] = list(map(jnp.asarray, self._held[name].leaves))
            else:
                mapped[name] = values[name]
        mapped = unconstrain_all(self._kinds(mapped), mapped) if mapped else mapped
        return {name: mapped[name] if name in mapped else free[name] for name in self.supports}

    def _kinds(self, names: Any) -> tuple[tuple[str, Support], ...]:
        return tuple((name, support) for name, support in self.supports.items() if name in names)

    def with_leaves(self, name: str, leaves: list) -> Any:
        """The value of a parameter with these floating arrays in the place of its own, in their
        order.
        """
        held = self._held.get(name)
        return leaves[0] if held is None or len(held.leaves) == 1 else join(leaves, held.static)

    def at(self, free: Mapping[str, Any]) -> "Density":
        """Return the density at these unconstrained parameters, the inverse of `free`;
        traceable.
        """
        if not isinstance(free, Mapping):
            raise TypeError(
                f"at was given {shown(free)}; expected a dict by parameter; pass what p.free() "
                "returns."
            )
        refuse_unknown("at", "parameter", free, self.supports)
        held, supports = dict(self._held), self.supports
        mapped = {n: v for n, v in free.items() if not isinstance(supports[n], PyTreeSupport)}
        mapped = constrain_all(self._kinds(mapped), mapped) if mapped else mapped
        for name, value in free.items():
            leaves = [mapped[name]] if name in mapped else value
            held[name] = Held(leaves, held[name].static)
        return object.__new__(type(self))._set(self._structure, held)

    # -- evaluation --------------------------------------------------------------------------------
    def log_density(self, event: Mapping[str, Any]) -> jax.Array:
        """The function's value at ONE event inside the support, given by name; traceable,
        unchecked.
        """
        summed = [slot for name, slot in self._slots(SUMMED).items() if name not in event]
        if summed:
            states = joint_states({s.name: (s.support, self._shape(s)) for s in summed})
            given = dict(event)
            return logsumexp(jax.vmap(lambda state: self.log_density(given | state))(states))
        positional, named = self.arguments_at(event)
        function: Any = self._structure.function  # a product overrides this method
        value = evaluate(function, self.name, positional, named)
        return _scalar(self.name, value)

    def arguments_at(self, event: Mapping[str, Any]) -> tuple[list, dict[str, Any]]:
        """What the function is called with at ONE event: by place and by name."""
        values = self._values | dict(event)
        positional: list = []
        named: dict[str, Any] = {}
        for slot in self._structure.slots:
            if slot.name not in values:
                raise ValueError(
                    f"{slot.role.capitalize()} {slot.name} of {self.name} has no value; expected "
                    "one; pass or bind it."
                )
            value = values[slot.name]
            if isinstance(slot.support, Support) and slot.has_shape:
                value = slot.support.encode(value)
            if slot.positional:
                positional.append(value)
            else:
                named[slot.argument] = value
        return positional, named

    def _log_z(self) -> jax.Array | None:
        """log Z by the declared closed form at the present values; traceable; None where none was
        declared.
        """
        closed = self._structure.log_z
        if closed is None:
            return None
        if isinstance(closed, ClosedForm):
            names, values = (
                {slot.argument: slot.name for slot in self._structure.slots},
                self._values,
            )
            for argument in closed.arguments:
                if names[argument] not in values:
                    name = names[argument]
                    raise ValueError(
                        f"Parameter {name} has no value; expected one; bind it by "
                        f"p.bind({name}=...)."
                    )
            given = {argument: values[names[argument]] for argument in closed.arguments}
            closed = call_by_precision(closed.function, [], given)
        if jnp.shape(closed) != ():
            raise ValueError(
                f"log_z of {self.name} returned the shape {jnp.shape(closed)}; expected a "
                "scalar; sum over the axes."
            )
        return jnp.asarray(closed, jnp.result_type(float))

    def log_density_on_support(self, event: Mapping[str, Any]) -> jax.Array:
        """`log_density`, and minus infinity outside the support."""
        inside = jnp.stack(
            [support.contains(event[name]) for name, support in self.variables.items()]
        ).all()
        # Outside, the function is asked about an event inside: its NaN there would reach the
        # gradient through `where`.
        safe = {
            n: jnp.where(inside, event[n], _inner(s, event[n])) for n, s in self.variables.items()
        }
        return jnp.where(inside, self.log_density(dict(event) | safe), -jnp.inf)

    def __call__(self, *events: Any, **named: Any) -> jax.Array:
        """log p̃ at one event or, over axes beyond the declared rank, at many: called as the
        function, or by a dict.
        """
        density, batch = self._arguments(events, named)
        return over_events(_log_density_on_support, density, batch)

    def score(self, *events: Any, **named: Any) -> jax.Array | dict[str, jax.Array]:
        """The gradient of log p̃ in the variables (not Fisher's): an array for one variable, a dict
        for several.
        """
        density, batch = self._arguments(events, named)
        discrete = [name for name, support in density.variables.items() if support.discrete]
        if discrete:
            raise ValueError(
                f"Variable {discrete[0]} is discrete, so that {self.name} has no score; expected "
                "continuous variables; fix it by p.given(...) first."
            )
        with explain_derivative_errors(self.name):
            gradient = over_events(_score, density, batch)
        return gradient if len(gradient) > 1 else next(iter(gradient.values()))

    def _event(self, slot: Slot, value: Any) -> jax.Array:
        """What a call was given for a variable or covariate, as floating numbers; traced values as
        they are.
        """
        if not isinstance(value, jax.Array):
            value = to_numbers(in_label_order(slot, value, self.labels), slot.name)
        value = jnp.asarray(value)
        return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(float)

    def _overridden(self, values: Mapping[str, Any]) -> "Density":
        return self._rebuilt(values=self._values | dict(values)) if values else self

    def _sharing(self, values: Mapping[str, Any], bound: frozenset[str]) -> "Density":
        """The density as a factor: its parameters take these values, and those among `bound` count
        as bound.
        """
        own = {name: value for name, value in values.items() if name in self.supports}
        if not own:
            return self
        return self._rebuilt(
            replace(self._structure, bound=self.bound | (bound & set(own))), self._values | own
        )

    def _arguments(self, events, named) -> tuple["Density", dict[str, Any]]:
        """Sort what a call was given into a density with its values and the events by name."""
        given = signature.by_name(self.name, list(self.variables), events, named)
        per_event = self._slots(VARIABLE) | self._slots(COVARIATE)
        refuse_unknown(self.name, "argument", given, {slot.name for slot in self._structure.slots})
        missing = [name for name in per_event if name not in given]
        if missing:
            raise ValueError(
                f"{self.name} was called without {missing[0]}; expected a value of every "
                f"variable; pass {missing[0]} too."
            )
        events = {name: self._event(slot, given[name]) for name, slot in per_event.items()}
        density = self._overridden(
            {name: value for name, value in given.items() if name not in per_event}
        )
        shapes = {}
        for name, slot in per_event.items():
            shapes[name] = event_shape(slot, events[name].shape)
        return density.resolved(shapes).for_jit(), events


def density(function: Callable | None = None, *, log_z: Callable | float | None = None) -> Any:
    """Declare a density by decorating the function of one event that returns its log, up to a
    constant.

    Args:
        function: its positional arguments are variables, keyword-only ones parameters, constants or
            covariates.
        log_z: the closed form of log Z where there is one, as in `Density`.

    Example:
        >>> import unnorm as un
        >>> @un.density(log_z=lambda rate: -jax.numpy.log(rate))
        ... def exponential(x: un.Positive, *, rate: un.Positive = 1.0):
        ...     return -rate * x
        >>> exponential
        Density exponential(x: Positive; rate: Positive)

    References:
        LeCun et al. (2006), A tutorial on energy-based learning.
    """

    def declare(function: Callable, local: Mapping[str, Any]) -> Density:
        slots, values = signature.from_function(function, local)
        closed = signature.closed_form(signature.function_name(function), log_z, slots)
        return object.__new__(Density)._build(Structure(function, slots, log_z=closed), values)

    # The names of the place that declares: under `from __future__ import annotations` all
    # annotations are strings.
    if function is None:
        return lambda decorated: declare(decorated, sys._getframe(1).f_locals)
    return declare(function, sys._getframe(1).f_locals)


def _scalar(name: str, value: Any) -> jax.Array:
    """What the function of this name returned for one event, as a real floating scalar."""
    if not (hasattr(value, "dtype") or isinstance(value, int | float)):
        raise ValueError(
            f"Density {name} returned {value!r} for one event; expected a scalar; return the "
            "log-density."
        )
    if jnp.shape(value) != ():
        raise ValueError(
            f"Density {name} returned the shape {jnp.shape(value)} for one event; expected a "
            "scalar; sum over the axes."
        )
    dtype = jnp.result_type(value)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(
            f"Density {name} returned a complex number; expected a real log-density; return its "
            "real part, for example by jnp.real, if its imaginary part is zero."
        )
    return value if jnp.issubdtype(dtype, jnp.floating) else jnp.asarray(value, float)


def cast(tree: Any, dtype) -> Any:
    """Return the pytree with every floating leaf as a JAX array of one strong dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def _log_density_on_support(density: Density, event: dict[str, jax.Array]) -> jax.Array:
    return density.log_density_on_support(event)


def _score(density: Density, event: dict[str, jax.Array]) -> dict[str, jax.Array]:
    moving = {name: event[name] for name in density.variables}
    return jax.grad(lambda moved: density.log_density(event | moved))(moving)


def _inner(support: Support, value: jax.Array) -> jax.Array:
    """An event inside the support, of this event's shape and dtype."""
    return support.constrain(jnp.zeros(support.free_shape(value.shape), value.dtype))
