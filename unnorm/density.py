"""The declaration: a Python function of one event becomes a Density.

The signature is the declaration: positional arguments are variables, keyword-only ones are parameters (a support),
constants (`un.Constant[...]` or no annotation) or covariates (`un.Covariate[...]`).
"""

import functools
import importlib
import operator
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm import signature
from unnorm.signature import CONSTANT, COVARIATE, PARAMETER, VARIABLE, ClosedForm, Slot, refuse_unknown
from unnorm.supports import Declared, Support, _PyTree
from unnorm.values import Held, at_rest, hold, join


@dataclass(frozen=True)
class Structure:
    """All that is static about a density: two densities of one structure share every compiled program."""

    function: Callable | None
    slots: tuple[Slot, ...]
    sizes: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, tuple], ...] = ()
    bound: frozenset[str] = frozenset()
    log_z: ClosedForm | float | None = None  # declared, never found out


@jax.tree_util.register_pytree_node_class
class Density:
    """A density known up to a constant: p(x) = exp(f(x; parameters)) / Z.

    Args:
        function: takes ONE event (its variables, parameters, constants and covariates by name) and returns the scalar
            log-density up to a constant.
        variables: what is sampled, ``{name: support}``, in the order of the function's positional arguments.
        parameters: what `fit` learns, ``{name: support}`` or ``{name: (support, start)}``.
        constants: ``{name: value}`` or ``{name: (un.Constant["d"], value)}``.
        covariates: ``{name: un.Covariate[...]}``, one value per event, given with the data.
        log_z: the closed form of log Z where there is one: a function of parameters, constants and covariates, by their
            names, or a number; 0.0 says that the density is normalized. Products, powers, truncation and `given` of a
            variable drop it.

    Raises:
        ValueError: a name, a support or a dimension that does not fit, in one sentence.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": (un.Positive, 2.0)})
        >>> float(p(1.5))
        -3.0

    References:
        Hyvärinen (2005), Journal of Machine Learning Research 6, 695-709 (densities known up to a constant).
    """

    def __init__(
        self,
        function: Callable,
        variables: Mapping[str, Support] | None = None,
        parameters: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
        covariates: Mapping[str, Declared] | None = None,
        log_z: Callable | float | None = None,
    ):
        slots, values = signature.from_mappings(function, variables, parameters, constants, covariates)
        closed = signature.closed_form(signature.called(function), log_z, slots)
        self._build(Structure(function, slots, log_z=closed), values)

    # -- building: frozen afterwards ----------------------------------------------------------------------------------
    def _build(self, structure: Structure, values: Mapping[str, Any]) -> "Density":
        sizes = dict(structure.sizes)
        values = {
            s.name: at_rest(values[s.name], s.name, floats=s.has_shape or s.role == CONSTANT)
            for s in structure.slots
            if s.name in values
        }
        for slot in structure.slots:
            if slot.name in values and slot.has_shape:
                values[slot.name] = _numbers(slot, values[slot.name])
                signature.unify(sizes, slot, np.shape(values[slot.name]), scalar_stands=True)
        held = {s.name: hold(_expanded(s, values[s.name], sizes)) for s in structure.slots if s.name in values}
        return self._set(replace(structure, sizes=tuple(sorted(sizes.items()))), held)

    def _set(self, structure: Structure, held: dict[str, Held]) -> "Density":
        object.__setattr__(self, "_structure", structure)
        object.__setattr__(self, "_held", held)
        # The declaration's own words, wherever help looks.
        object.__setattr__(self, "__doc__", getattr(structure.function, "__doc__", None))
        return self

    def _rebuilt(self, structure: Structure | None = None, values: Mapping[str, Any] | None = None) -> "Density":
        new = object.__new__(type(self))
        return new._build(structure or self._structure, self._values if values is None else values)

    @property
    def _values(self) -> dict[str, Any]:
        return {name: join(*held) for name, held in self._held.items()}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"Density is frozen, and {name!r} was assigned; use bind, fix, given or with_dimensions, which "
            "return a new one."
        )

    def tree_flatten(self):
        leaves = {name: held.leaves for name, held in self._held.items()}
        return (leaves,), (self._structure, tuple((name, held.static) for name, held in self._held.items()))

    @classmethod
    def tree_unflatten(cls, auxiliary, children):
        structure, static = auxiliary
        return object.__new__(cls)._set(structure, {name: Held(children[0][name], rest) for name, rest in static})

    def __copy__(self) -> "Density":
        return self  # frozen, and its arrays are read-only

    def __deepcopy__(self, _) -> "Density":
        return self

    def __reduce__(self):
        function, closed = self._structure.function, self._structure.log_z
        if isinstance(closed, ClosedForm) and "<" in getattr(closed.function, "__qualname__", "<"):
            raise TypeError(
                f"Density {self.name} cannot be pickled, because its log_z is a lambda or local function, which has no "
                "importable name; declare it at the top level of a module."
            )
        place = (getattr(function, "__module__", None), getattr(function, "__qualname__", "<lambda>"))
        if "<" in place[1]:
            raise TypeError(
                f"Density of the function {place[1]} cannot be pickled, because a lambda or local function has no "
                "importable name; declare it at the top level of a module."
            )
        if _at_place(place) is not function:
            raise TypeError(
                f"Density {self.name} cannot be pickled, because {place[0]}.{place[1]} is now something else; "
                "keep the declaration under the name of its function."
            )
        return _from_pickle, (type(self), place, replace(self._structure, function=None), self._values)

    # -- what it is ---------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return getattr(self._structure.function, "__name__", "density")

    @property
    def function(self) -> Callable | None:
        """The declared function of one event (None for a product)."""
        return self._structure.function

    def _slots(self, role: str) -> dict[str, Slot]:
        return {slot.name: slot for slot in self._structure.slots if slot.role == role}

    @property
    def variables(self) -> dict[str, Support]:
        """What is sampled: ``{name: support}``."""
        return {name: slot.support for name, slot in self._slots(VARIABLE).items()}

    @property
    def supports(self) -> dict[str, Support]:
        """The supports of the parameters: ``{name: support}``."""
        return {name: slot.support for name, slot in self._slots(PARAMETER).items()}

    @property
    def parameters(self) -> dict[str, Any]:
        """The constrained values of the parameters (None where there is none yet)."""
        return {name: self._values.get(name) for name in self._slots(PARAMETER)}

    @property
    def constants(self) -> dict[str, Any]:
        """The values of the constants."""
        return {name: self._values[name] for name in self._slots(CONSTANT)}

    @property
    def covariates(self) -> dict[str, Declared]:
        """What each event brings with it and is never sampled."""
        return {name: slot.support for name, slot in self._slots(COVARIATE).items()}

    @property
    def dimensions(self) -> dict[str, int | None]:
        """The size of every named dimension (None while it is open)."""
        sizes = dict(self._structure.sizes)
        named = (axis for slot in self._structure.slots if slot.has_shape for axis in slot.support.axes)
        return {axis: sizes.get(axis) for axis in named if isinstance(axis, str)}

    @property
    def labels(self) -> dict[str, tuple]:
        """The labels of the dimensions that have some."""
        return dict(self._structure.labels)

    @property
    def bound(self) -> frozenset[str]:
        """The parameters whose values were given by `bind` or by a fit, and do not stand at their declared starts."""
        return self._structure.bound

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The event shape of every variable; an open dimension is asked for in a sentence."""
        return {name: self._shape(slot) for name, slot in self._slots(VARIABLE).items()}

    def _shape(self, slot: Slot) -> tuple[int, ...]:
        sizes = dict(self._structure.sizes)
        for axis in slot.support.shape_axes:
            if isinstance(axis, str) and axis not in sizes:
                raise ValueError(
                    f"Dimension {axis!r} of {slot.name} is open; "
                    f"give it with p.with_dimensions({axis}=...), or bind a "
                    "value or pass data that has it."
                )
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in slot.support.shape_axes)

    def __repr__(self) -> str:
        def part(role: str) -> str:
            return ", ".join(f"{n}: {s.support!r}" for n, s in self._slots(role).items() if s.has_shape)

        learned = part(PARAMETER)
        return f"Density {self.name}({part(VARIABLE)}" + (f"; {learned})" if learned else ")")

    # -- values -------------------------------------------------------------------------------------------------------
    def bind(self, **values: Any) -> "Density":
        """Return the density with these parameter values, which `fit` may still move.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": un.Positive})
            >>> p.bind(rate=2.0).parameters["rate"].item()
            2.0
        """
        slots = self._slots(PARAMETER)
        refuse_unknown("bind", "parameter", values, slots)
        checked = {name: _checked(slots[name], value) for name, value in values.items()}
        structure = replace(self._structure, bound=self._structure.bound | set(values))
        return self._rebuilt(structure, self._values | checked)

    def fix(self, **values: Any) -> "Density":
        """Return the density in which these parameters are constants with the given values."""
        slots = self._slots(PARAMETER)
        refuse_unknown("fix", "parameter", values, slots)
        checked = {name: _checked(slots[name], value) for name, value in values.items()}
        return self._rebuilt(self._with_role(values, CONSTANT), self._values | checked)

    def given(self, **values: Any) -> "Density":
        """Return the density of the other variables, up to a constant, given the values of these or of covariates.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(lambda y, *, z: -0.5 * (y - z) ** 2, {"y": un.Real}, covariates={"z": un.Covariate})
            >>> round(un.log_z(p.given(z=2.0), progress=False).value, 4)  # log sqrt(2 pi)
            0.9189
        """
        slots = self._slots(VARIABLE) | self._slots(COVARIATE)
        refuse_unknown("given", "variable or covariate", values, slots)
        sampled = self.variables
        if set(values) >= set(sampled):
            raise ValueError(
                f"given() was passed every variable ({', '.join(sampled)}); leave at least one to the density."
            )
        for name, value in values.items():  # an event is given in full; only a default may be one number for all
            signature.unify(dict(self._structure.sizes), slots[name], np.shape(value))
        checked = {name: _checked(slots[name], value) for name, value in values.items()}
        structure = self._with_role(values, CONSTANT)
        if set(values) & set(sampled):
            structure = replace(structure, log_z=None)  # it was that of all variables
        return self._rebuilt(structure, self._values | checked)

    def _at_row(self, values: Mapping[str, Any]) -> "Density":
        """`given` covariates, for compiled code: traceable, unchecked."""
        own = {name: value for name, value in values.items() if name in self.covariates}
        held = self._held | {name: hold(jnp.asarray(value)) for name, value in own.items()}
        return object.__new__(type(self))._set(self._with_role(own, CONSTANT), held)

    def _observing(self, names: tuple[str, ...]) -> "Density":
        """The density of the other variables, these being covariates: log p̃(h | x) = log p̃(x, h) for each row x."""
        return object.__new__(type(self))._set(replace(self._with_role(names, COVARIATE), log_z=None), self._held)

    def _with_role(self, names, role: str) -> Structure:
        slots = tuple(replace(s, role=role) if s.name in names else s for s in self._structure.slots)
        return replace(self._structure, slots=slots, bound=self._structure.bound - set(names))

    def rename(self, **names: str) -> "Density":
        """Return the density with variables, parameters, constants or covariates renamed: ``p.rename(x="y")``."""
        known = {slot.name for slot in self._structure.slots}
        refuse_unknown("rename", "name", names, known)
        slots = tuple(replace(slot, name=names.get(slot.name, slot.name)) for slot in self._structure.slots)
        signature.refuse_clashes(slots)
        values = {names.get(name, name): value for name, value in self._values.items()}
        bound = frozenset(names.get(name, name) for name in self._structure.bound)
        return self._rebuilt(replace(self._structure, slots=slots, bound=bound), values)

    def with_dimensions(self, **dimensions: Any) -> "Density":
        """Return the density with dimensions of these sizes, or of these labels: ``p.with_dimensions(d=8)``."""
        refuse_unknown("with_dimensions", "dimension", dimensions, self.dimensions)
        sizes, labels = dict(self._structure.sizes), dict(self._structure.labels)
        for name, given in dimensions.items():
            whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
            if isinstance(given, str) or not (whole or hasattr(given, "__len__")):
                raise ValueError(
                    f"Dimension {name!r} was given {given!r}; expected a positive whole number or a list of labels."
                )
            size = given if whole else len(given)
            if size < 1:
                raise ValueError(f"Dimension {name!r} was given the size {size}; expected a positive whole number.")
            if sizes.get(name, size) != size:
                raise ValueError(
                    f"Dimension {name!r} is {sizes[name]} by what is bound already, and {size} was given; use one size."
                )
            sizes[name] = int(size)
            if not whole:
                labels[name] = tuple(str(label) for label in given)
        structure = replace(self._structure, sizes=tuple(sorted(sizes.items())), labels=tuple(sorted(labels.items())))
        return self._rebuilt(structure)

    def resolved(self, shapes: Mapping[str, tuple[int, ...]]) -> "Density":
        """Return the density with its open dimensions taken from the event shapes of variables and covariates."""
        sizes = dict(self._structure.sizes)
        for slot in self._structure.slots:
            if slot.role in (VARIABLE, COVARIATE) and slot.name in shapes:
                signature.unify(sizes, slot, shapes[slot.name])
        if sizes == dict(self._structure.sizes):
            return self
        return self._rebuilt(replace(self._structure, sizes=tuple(sorted(sizes.items()))))

    def charted(self) -> "Density":
        """Return the density over supports whose coordinates are R^n one to one, as integration needs them."""
        charts = {name: support.chart for name, support in self.variables.items()}
        if charts == self.variables:
            return self
        slots = tuple(
            replace(slot, support=charts[slot.name]) if slot.role == VARIABLE else slot
            for slot in self._structure.slots
        )
        return self._rebuilt(replace(self._structure, slots=slots))

    def bare(self) -> "Density":
        """Return the density as compiled code takes it: every value present, no labels, no record of what was bound."""
        for slot in self._structure.slots:
            if slot.role == PARAMETER and slot.name not in self._values:
                raise ValueError(f"Parameter {slot.name} has no value; bind one with p.bind({slot.name}=...).")
            if slot.has_shape and slot.role != COVARIATE:
                self._shape(slot)
        return object.__new__(type(self))._set(replace(self._structure, labels=(), bound=frozenset()), self._held)

    def free(self) -> dict[str, Any]:
        """The unconstrained parameters, as optimisers and gradients see them: ``{name: array}`` (JAX arrays)."""
        self.bare()
        values, free = self.parameters, {}
        for name, support in self.supports.items():
            tree = isinstance(support, _PyTree)
            free[name] = list(map(jnp.asarray, self._held[name].leaves)) if tree else support.unconstrain(values[name])
        return free

    def with_leaves(self, name: str, leaves: list) -> Any:
        """The value of a parameter with these floating arrays in the place of its own, in their order."""
        held = self._held.get(name)
        return leaves[0] if held is None or len(held.leaves) == 1 else join(leaves, held.static)

    def at(self, free: Mapping[str, Any]) -> "Density":
        """Return the density at these unconstrained parameters, the inverse of `free`; traceable."""
        refuse_unknown("at", "parameter", free, self.supports)
        held, supports = dict(self._held), self.supports
        for name, value in free.items():
            support = supports[name]
            held[name] = Held(value if isinstance(support, _PyTree) else [support.constrain(value)], held[name].static)
        return object.__new__(type(self))._set(self._structure, held)

    # -- evaluation ---------------------------------------------------------------------------------------------------
    def log_density(self, event: Mapping[str, Any]) -> jax.Array:
        """The function's value at ONE event inside the support, given by name; traceable, unchecked."""
        values = self._values | dict(event)
        positional, named = [], {}
        for slot in self._structure.slots:
            if slot.name not in values:
                raise ValueError(f"{slot.role.capitalize()} {slot.name} of {self.name} has no value; pass or bind it.")
            value = values[slot.name]
            if isinstance(slot.support, Support) and slot.has_shape:
                value = slot.support.encode(value)
            if slot.positional:
                positional.append(value)
            else:
                named[slot.argument] = value
        value = self._structure.function(*positional, **named)
        if not (hasattr(value, "dtype") or isinstance(value, int | float)):
            raise ValueError(
                f"Density {self.name} returned {value!r} for one event; expected a scalar; return the log-density."
            )
        if jnp.shape(value) != ():
            raise ValueError(
                f"Density {self.name} returned the shape {jnp.shape(value)} for one event; expected a scalar; "
                "sum over the axes."
            )
        return value if jnp.issubdtype(jnp.result_type(value), jnp.floating) else jnp.asarray(value, float)

    def _log_z(self) -> jax.Array | None:
        """log Z by the declared closed form at the present values; traceable; None where none was declared."""
        closed = self._structure.log_z
        if closed is None:
            return None
        if isinstance(closed, ClosedForm):
            names, values = {slot.argument: slot.name for slot in self._structure.slots}, self._values
            for argument in closed.arguments:
                if names[argument] not in values:
                    name = names[argument]
                    raise ValueError(f"Parameter {name} has no value; bind one with p.bind({name}=...).")
            closed = closed.function(**{argument: values[names[argument]] for argument in closed.arguments})
        if jnp.shape(closed) != ():
            raise ValueError(
                f"log_z of {self.name} returned the shape {jnp.shape(closed)}; expected a scalar; sum over the axes."
            )
        return jnp.asarray(closed, jnp.result_type(float))

    def masked(self, event: Mapping[str, Any]) -> jax.Array:
        """`log_density`, and minus infinity outside the support."""
        inside = jnp.stack([support.contains(event[name]) for name, support in self.variables.items()]).all()
        # Outside, the function is asked about an event inside: its NaN there would reach the gradient through `where`.
        safe = {n: jnp.where(inside, event[n], _inner(s, event[n])) for n, s in self.variables.items()}
        return jnp.where(inside, self.log_density(event | safe), -jnp.inf)

    def __call__(self, *events: Any, **named: Any) -> jax.Array:
        """log p̃ at one event or, over axes beyond the declared rank, at many: called as the function, or by a dict."""
        density, batch = self._arguments(events, named)
        return _evaluate(density, batch, _batch_axes(density, batch))

    def score(self, *events: Any, **named: Any):
        """The gradient of log p̃ in the variables (not Fisher's): an array for one variable, a dict for several."""
        density, batch = self._arguments(events, named)
        discrete = [name for name, support in density.variables.items() if support.discrete]
        if discrete:
            raise ValueError(
                f"Variable {discrete[0]} is discrete, so that {self.name} has no score; use p.given(...) first."
            )
        gradient = _score(density, batch, _batch_axes(density, batch))
        return gradient if len(gradient) > 1 else next(iter(gradient.values()))

    def _overridden(self, values: Mapping[str, Any]) -> "Density":
        return self._rebuilt(values=self._values | dict(values)) if values else self

    def _sharing(self, values: Mapping[str, Any], bound: frozenset[str]) -> "Density":
        """The density as a factor: its parameters take these values, and those among `bound` count as bound."""
        own = {name: value for name, value in values.items() if name in self.supports}
        if not own:
            return self
        return self._rebuilt(replace(self._structure, bound=self.bound | (bound & set(own))), self._values | own)

    def _arguments(self, events, named) -> tuple["Density", dict[str, Any]]:
        """Sort what a call was given into a density with its values and the events by name."""
        given = signature.by_name(self.name, list(self.variables), events, named)
        per_event = self._slots(VARIABLE) | self._slots(COVARIATE)
        refuse_unknown(self.name, "argument", given, {slot.name for slot in self._structure.slots})
        missing = [name for name in per_event if name not in given]
        if missing:
            raise ValueError(f"{self.name} was called without {missing[0]}; pass a value for it.")
        events = {name: jnp.asarray(given[name]) for name in per_event}
        events = {n: e if jnp.issubdtype(e.dtype, jnp.floating) else e.astype(float) for n, e in events.items()}
        density = self._overridden({name: value for name, value in given.items() if name not in per_event})
        shapes = {}
        for name, slot in per_event.items():
            shapes[name] = signature.event_shape(slot, events[name].shape)
        return density.resolved(shapes).bare(), events


def density(function: Callable | None = None, *, log_z: Callable | float | None = None):
    """Declare a density by decorating the function of one event that returns its log, up to a constant.

    Args:
        function: its positional arguments are variables, keyword-only ones parameters, constants or covariates.
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

    def declared(function: Callable, local: Mapping[str, Any]) -> Density:
        slots, values = signature.from_function(function, local)
        closed = signature.closed_form(signature.called(function), log_z, slots)
        return object.__new__(Density)._build(Structure(function, slots, log_z=closed), values)

    # The names of the place that declares: under `from __future__ import annotations` all annotations are strings.
    if function is None:
        return lambda decorated: declared(decorated, sys._getframe(1).f_locals)
    return declared(function, sys._getframe(1).f_locals)


def cast(tree: Any, dtype) -> Any:
    """Return the pytree with every floating leaf as a JAX array of one strong dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def _batched(function: Callable, density: Density, events: dict, axes: tuple[tuple[str, int], ...]):
    """Map a function of (density, one event) over the leading axes of the events."""
    leading = jnp.broadcast_shapes(*(events[name].shape[:rank] for name, rank in axes))
    flat = {}
    for name, rank in axes:
        value = events[name]
        value = jnp.broadcast_to(value, leading + value.shape[rank:])
        flat[name] = value.reshape((-1,) + value.shape[len(leading) :])
    out = jax.vmap(lambda event: function(density, event))(flat)
    return jax.tree.map(lambda leaf: leaf.reshape(leading + leaf.shape[1:]), out)


@functools.partial(jax.jit, static_argnums=2)
def _evaluate(density: Density, events: dict, axes):
    return _batched(lambda p, event: p.masked(event), density, events, axes)


@functools.partial(jax.jit, static_argnums=2)
def _score(density: Density, events: dict, axes):
    def gradient(p, event):
        moving = {name: event[name] for name in p.variables}
        return jax.grad(lambda moved: p.log_density(event | moved))(moving)

    return _batched(gradient, density, events, axes)


def _batch_axes(density: Density, events: dict) -> tuple[tuple[str, int], ...]:
    declared = density.variables | density.covariates
    return tuple((name, event.ndim - len(declared[name].shape_axes)) for name, event in events.items())


def _checked(slot: Slot, value: Any) -> Any:
    """A value given for a slot, at rest and inside its support; traced values are taken as they are."""
    if not slot.has_shape or isinstance(value, jax.core.Tracer):
        return value
    value = _numbers(slot, at_rest(value, slot.name))
    if slot.role == COVARIATE:
        if not np.isfinite(value).all():
            raise ValueError(f"{slot.name} was given {value}; expected finite numbers; pass such.")
        return value.astype(float) if value.dtype.kind != "f" else value
    if value.ndim:
        signature.unify({}, slot, value.shape)  # its shape before its entries: a check may count on square matrices
        slot.support.check(value, slot.name)
    return value


def _numbers(slot: Slot, value: Any) -> Any:
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


def _inner(support: Support, value: jax.Array) -> jax.Array:
    """An event inside the support, of this event's shape and dtype."""
    return support.constrain(jnp.zeros(support.free_shape(value.shape), value.dtype))


def _expanded(slot: Slot, value: Any, sizes: dict[str, int]) -> Any:
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


def _at_place(place: tuple[str, str]) -> Callable | None:
    """The function that stands at (module, qualified name), decorated or not."""
    try:
        found = operator.attrgetter(place[1])(importlib.import_module(place[0]))
    except (AttributeError, ImportError):
        return None
    return found._structure.function if isinstance(found, Density) else found


def _from_pickle(kind: type, place: tuple[str, str], structure: Structure, values: dict[str, Any]) -> Density:
    return object.__new__(kind)._build(replace(structure, function=_at_place(place)), values)
