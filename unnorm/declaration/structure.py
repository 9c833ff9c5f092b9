"""What a density is declared to be: its slots, the values that these hold, and all that is known
without a draw.
"""

import importlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from unnorm.core.compilation.program_cache import program_key
from unnorm.declaration.deterministic import deterministics_of
from unnorm.declaration.slots import (
    CONSTANT,
    COVARIATE,
    PARAMETER,
    VARIABLE,
    ClosedForm,
    Slot,
    unify,
)
from unnorm.declaration.values import Held, at_rest, broadcast_value, hold, join, numbers
from unnorm.supports.base import Annotation, Support


@dataclass(frozen=True)
class Structure:
    """All that is static about a density: two densities of one structure share every compiled
    program.

    Functions are compared by `key`: the function itself, or what `program_key` makes of it.
    """

    function: Callable | None = field(compare=False)
    slots: tuple[Slot, ...]
    sizes: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, tuple], ...] = ()
    bound: frozenset[str] = frozenset()
    log_z: ClosedForm | float | None = None  # declared, never found out
    key: Any = None

    def __post_init__(self) -> None:
        if self.key is None:
            object.__setattr__(self, "key", self.function)

    def for_jit(self) -> Self:
        """The structure by which densities of equal functions share compiled programs, at their
        present values.
        """
        closed = self.log_z
        if isinstance(closed, ClosedForm):
            closed = replace(closed, key=program_key(closed.function))
        return replace(
            self, key=program_key(self.function), log_z=closed, labels=(), bound=frozenset()
        )


class Declaration:
    """A structure and the values that it holds: frozen, a pytree, to be pickled, and what it tells
    of itself.
    """

    _structure: Structure
    _held: dict[str, Held]

    # -- building: frozen afterwards ---------------------------------------------------------------
    def _build(self, structure: Structure, values: Mapping[str, Any]) -> Self:
        sizes = dict(structure.sizes)
        values = {
            s.name: at_rest(values[s.name], s.name, floats=s.has_shape or s.role == CONSTANT)
            for s in structure.slots
            if s.name in values
        }
        for slot in structure.slots:
            if slot.name in values and slot.has_shape:
                values[slot.name] = numbers(slot, values[slot.name])
                unify(sizes, slot, np.shape(values[slot.name]), scalar_stands=True)
        held = {
            s.name: hold(broadcast_value(s, values[s.name], sizes))
            for s in structure.slots
            if s.name in values
        }
        return self._set(replace(structure, sizes=tuple(sorted(sizes.items()))), held)

    def _set(self, structure: Structure, held: dict[str, Held]) -> Self:
        object.__setattr__(self, "_structure", structure)
        object.__setattr__(self, "_held", held)
        # The declaration's own words, wherever help looks.
        object.__setattr__(self, "__doc__", getattr(structure.function, "__doc__", None))
        return self

    def _rebuilt(
        self, structure: Structure | None = None, values: Mapping[str, Any] | None = None
    ) -> Self:
        new = object.__new__(type(self))
        return new._build(structure or self._structure, self._values if values is None else values)

    @property
    def _values(self) -> dict[str, Any]:
        return {name: join(*held) for name, held in self._held.items()}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"Density is frozen, and {name!r} was assigned; use bind, fix, given or "
            "with_dimensions, which return a new one."
        )

    def tree_flatten(self) -> tuple:
        leaves = {name: held.leaves for name, held in self._held.items()}
        return (leaves,), (
            self._structure,
            tuple((name, held.static) for name, held in self._held.items()),
        )

    @classmethod
    def tree_unflatten(cls, auxiliary, children) -> Self:
        structure, static = auxiliary
        return object.__new__(cls)._set(
            structure, {name: Held(children[0][name], rest) for name, rest in static}
        )

    def __copy__(self) -> Self:
        return self  # frozen, and its arrays are read-only

    def __deepcopy__(self, _) -> Self:
        return self

    def __reduce__(self) -> tuple:
        function, closed = self._structure.function, self._structure.log_z
        if isinstance(closed, ClosedForm) and "<" in getattr(closed.function, "__qualname__", "<"):
            raise TypeError(
                f"Density {self.name} cannot be pickled, because its log_z is a lambda or local "
                "function, which has no importable name; expected a function of a module; "
                "declare it at the top level of a module."
            )
        place = (
            str(getattr(function, "__module__", None)),
            getattr(function, "__qualname__", "<lambda>"),
        )
        if "<" in place[1]:
            raise TypeError(
                f"Density of the function {place[1]} cannot be pickled, because a lambda or local "
                "function has no importable name; expected a function of a module; declare it at "
                "the top level of a module."
            )
        if _at_place(place) is not function:
            raise TypeError(
                f"Density {self.name} cannot be pickled, because {place[0]}.{place[1]} is now "
                "another object; expected the density's function; keep the declaration under the "
                "name of its function."
            )
        return _from_pickle, (
            type(self),
            place,
            replace(self._structure, function=None, key=None),
            self._values,
        )

    # -- what it is --------------------------------------------------------------------------------
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
    def covariates(self) -> dict[str, Annotation]:
        """What each event brings with it and is never sampled."""
        return {name: slot.support for name, slot in self._slots(COVARIATE).items()}

    @property
    def dimensions(self) -> dict[str, int | None]:
        """The size of every named dimension (None while it is open)."""
        sizes = dict(self._structure.sizes)
        named = (
            axis for slot in self._structure.slots if slot.has_shape for axis in slot.support.axes
        )
        return {axis: sizes.get(axis) for axis in named if isinstance(axis, str)}

    @property
    def labels(self) -> dict[str, tuple]:
        """The labels of the dimensions that have some."""
        return dict(self._structure.labels)

    @property
    def bound(self) -> frozenset[str]:
        """The parameters whose values were given by `bind` or by a fit, and do not stand at their
        declared starts.
        """
        return self._structure.bound

    def deterministics(self) -> dict[str, Callable]:
        """What the function computes besides its value, such as NumPyro's deterministic sites: each
        as a function of an event, by name.
        """
        return {name: function for name, (function, _) in deterministics_of(self).items()}

    def deterministic_axes(self) -> dict[str, tuple[int | str, ...]]:
        """The axes of each of these quantities, by name."""
        return {name: axes for name, (_, axes) in deterministics_of(self).items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The event shape of every variable; an open dimension is asked for in a sentence."""
        return {name: self._shape(slot) for name, slot in self._slots(VARIABLE).items()}

    def _shape(self, slot: Slot) -> tuple[int, ...]:
        sizes = dict(self._structure.sizes)
        for axis in slot.support.shape_axes:
            if isinstance(axis, str) and axis not in sizes:
                raise ValueError(
                    f"Dimension {axis!r} of {slot.name} is open; expected a size; set it by "
                    f"p.with_dimensions({axis}=...), or bind or pass values that have it."
                )
        return tuple(
            sizes[axis] if isinstance(axis, str) else axis for axis in slot.support.shape_axes
        )

    def __repr__(self) -> str:
        def part(role: str) -> str:
            return ", ".join(
                f"{n}: {s.support!r}" for n, s in self._slots(role).items() if s.has_shape
            )

        learned = part(PARAMETER)
        return f"Density {self.name}({part(VARIABLE)}" + (f"; {learned})" if learned else ")")


def _at_place(place: tuple[str, str]) -> Callable | None:
    """The function that stands at (module, qualified name), decorated or not."""
    try:
        found = operator.attrgetter(place[1])(importlib.import_module(place[0]))
    except (AttributeError, ImportError):
        return None
    return found._structure.function if isinstance(found, Declaration) else found


def _from_pickle(
    kind: type, place: tuple[str, str], structure: Structure, values: dict[str, Any]
) -> Declaration:
    return object.__new__(kind)._build(
        replace(structure, function=_at_place(place), key=None), values
    )
