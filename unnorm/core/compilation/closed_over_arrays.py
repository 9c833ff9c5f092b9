"""NumPy arrays that a user's function reads, kept apart by precision.

JAX 0.10 caches the constant that it makes of a NumPy array by the identity of the array alone, for
as long as a compiled function uses it. `jnp.sum(h * x)` with an array h of float64 that was traced
in double precision could then not be traced in single precision ("requires compatible element
types"). Here a function is called with views of its arrays, and each precision has views of its
own, so that JAX makes a constant for each.

Arrays are found in arguments, closures, defaults, globals and attributes of the user's modules, in
functions that the function calls (behind `jax.jit` as well), in containers and in the attributes of
objects. They are not found behind `jax.custom_jvp` and other transformations that are objects.
"""

import contextlib
import copy
import functools
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from unnorm.core.compilation.function_identity import in_library, names, unwrap, writes

# Views by function and precision, each with its array. JAX keeps its constant while a view lives.
_VIEWS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def call_by_precision(function: Callable, positional: list, named: dict[str, Any]) -> Any:
    """Call a function, its NumPy arrays replaced by views that belong to the present precision.

    Args:
        function: a user's function; it is not changed.
        positional: its arguments, whose arrays are replaced as well.
        named: its keyword arguments, the same.

    Example:
        >>> import numpy as np
        >>> field = np.array([1.0, 2.0])
        >>> found = call_by_precision(lambda field=field: field, [], {})
        >>> found is field, np.shares_memory(found, field)
        (False, True)
    """
    precision = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]  # set at run time
    try:
        views = _VIEWS.setdefault(function, {})
    except TypeError:  # not hashable or not weakly referable: its views live for one call
        views = {}
    substitution = _Substitution(views.get(precision, {}))
    called, positional, named = map(substitution.of, (function, positional, named))
    views[precision] = substitution.views
    return called(*positional, **named)


class _Substitution:
    """Copies of values in which arrays are views; a value without arrays stays itself."""

    def __init__(
        self, earlier: Mapping[int, tuple[np.ndarray, np.ndarray]], largest: int = 1000
    ) -> None:
        self.earlier, self.largest = earlier, largest  # longer containers are left alone
        self.views: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.copies: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any) -> Any:
        """The value with views in place of its arrays."""
        kind = type(value)
        if kind in (float, int, str, bool, type(None)):
            return value
        if kind is np.ndarray:
            return self._view(value) if value.dtype.kind in "iufc" else value
        if id(value) not in self.copies and len(self.copies) < 10 * self.largest:
            self.copies[id(value)] = value, value  # a cycle ends here
            replace = next((f for known, f in _KINDS.items() if isinstance(value, known)), _object)
            self.copies[id(value)] = value, replace(value, self)
        return self.copies.get(id(value), (value, value))[1]

    def _view(self, array: np.ndarray) -> np.ndarray:
        key = id(array)
        if key not in self.views:
            self.views[key] = self.earlier.get(key) or (array, array.view())
        return self.views[key][1]

    def substitutions(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The copies that are not the values themselves."""
        copies = {name: self.of(value) for name, value in values.items()}
        return {name: new for name, new in copies.items() if new is not values[name]}


def replace_arrays(function: Callable, change: Callable[[np.ndarray], Any]) -> Callable:
    """A copy of a user's function that reads `change(array)` in place of each of its NumPy arrays.

    Example:
        >>> import numpy as np
        >>> __name__ = "user"  # arrays of the library's own functions stay
        >>> field = np.array([1.0, 2.0])
        >>> replace_arrays(lambda x: x + field, lambda array: 2 * array)(1.0)
        array([3., 5.])
    """
    return _Change(change).of(function)


class _Change(_Substitution):
    """Copies of values in which arrays are changed."""

    def __init__(self, change: Callable[[np.ndarray], Any]) -> None:
        super().__init__({})
        self.change = change

    def _view(self, array: np.ndarray) -> np.ndarray:
        key = id(array)
        if key not in self.views:
            self.views[key] = array, self.change(array)
        return self.views[key][1]


def _sequence(value: Any, by: _Substitution) -> Any:
    if len(value) > by.largest:
        return value
    copies = [by.of(one) for one in value]
    if all(new is one for new, one in zip(copies, value, strict=True)):
        return value
    return value._make(copies) if hasattr(value, "_make") else type(value)(copies)


def _mapping(value: dict, by: _Substitution) -> dict:
    changed = by.substitutions(value) if len(value) <= by.largest else {}
    return value | changed if changed else value


def _function(function: types.FunctionType, by: _Substitution) -> types.FunctionType:
    code = function.__code__
    if writes(code):  # its cells and globals must stay the ones that it assigns to
        return function
    cells, values = dict(zip(code.co_freevars, function.__closure__ or (), strict=True)), {}
    for name, cell in cells.items():
        with contextlib.suppress(ValueError):  # no value yet
            values[name] = cell.cell_contents
    closed, scope = by.substitutions(values), {}
    defaults, keywords = by.of(function.__defaults__), by.of(function.__kwdefaults__)
    if not in_library(function):
        scope = _globals(function, by)
    same = defaults is function.__defaults__ and keywords is function.__kwdefaults__
    if same and not closed and not scope:
        return function
    closure = tuple(
        types.CellType(closed[name]) if name in closed else cell for name, cell in cells.items()
    )
    scope = function.__globals__ | scope if scope else function.__globals__
    new = types.FunctionType(code, scope, function.__name__, defaults, closure)
    new.__kwdefaults__, new.__qualname__ = keywords, function.__qualname__
    return new


def _globals(function: types.FunctionType, by: _Substitution) -> dict[str, Any]:
    """The globals and the modules that a function reads, where an array is among them."""
    read, attributes, _ = names(function.__code__)
    known = function.__globals__
    values = {name: known[name] for name in read if name in known}
    modules = {n: v for n, v in values.items() if isinstance(v, types.ModuleType)}
    changed = by.substitutions({n: v for n, v in values.items() if n not in modules})
    for name, module in modules.items():
        parts = {n: vars(module)[n] for n in attributes if n in vars(module)}
        inner = {} if in_library(module) else by.substitutions(parts)
        if inner:
            changed[name] = types.ModuleType(module.__name__)
            vars(changed[name]).update(vars(module) | inner)
    return changed


def _jit_function(value: Callable, by: _Substitution) -> Callable:
    """The function behind `jax.jit`, to be traced inline, where it reads arrays."""
    inner = unwrap(value)
    new = inner if in_library(value) else by.of(inner)
    return value if new is inner else new


def _partial(value: functools.partial, by: _Substitution) -> functools.partial:
    parts = value.func, value.args, value.keywords
    new = by.of(parts)
    return value if new is parts else type(value)(new[0], *new[1], **new[2])


def _bound(value: types.MethodType, by: _Substitution) -> types.MethodType:
    parts = value.__func__, value.__self__
    new = by.of(parts)
    return value if new is parts else types.MethodType(*new)


def _object(value: Any, by: _Substitution) -> Any:
    if in_library(type(value)) or not hasattr(value, "__dict__"):
        return value
    changed = by.substitutions(vars(value))
    if not changed:
        return value
    new = copy.copy(value)
    vars(new).update(changed)
    return new


_KINDS: dict[type, Callable] = {
    types.FunctionType: _function,
    types.MethodType: _bound,
    functools.partial: _partial,
    type(jax.jit(lambda: 0)): _jit_function,
    tuple: _sequence,
    list: _sequence,
    dict: _mapping,
    types.ModuleType: lambda value, by: value,
    type: lambda value, by: value,
}

__all__ = ["call_by_precision"]
