"""When two functions may share a compiled program: equal code, and equal values of all that a call
may read.

A new lambda at each turn of a loop is a new object; keyed by the object, each would compile again
and stay in memory. The key holds values that nobody can change. Where a function uses anything else
(arrays of NumPy, lists, objects of the user's), its key is the state that it reaches at the call,
so that a program is not used after that has changed.
"""

import contextlib
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from unnorm.core.compilation.function_identity import (
    UnknownDependencyError,
    in_library,
    unwrap,
    values_in_use,
    writes,
)
from unnorm.core.compilation.reachable_state import FIXED, JITTED, reachable_state

_ATOMS = frozenset({type(None), type(...), bool, int, str, bytes})


def program_key(function: Any) -> Any:
    """A hashable key, equal for functions that may share compiled programs.

    It is a snapshot: take it where the function is about to be traced, for globals may change
        before.
    """
    if isinstance(function, types.FunctionType):
        # a TypeError: what cannot be hashed
        with contextlib.suppress(UnknownDependencyError, TypeError):
            return _Key(_key(function, ()))
    key = _StateKey(function)
    return key if key.state.digest else function


class StaticFunction:
    """A function under its shared key, as a static argument of compiled programs."""

    def __init__(self, function: Callable) -> None:
        self.function, self.key = function, program_key(function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, StaticFunction) and self.key == other.key


class _StateKey:
    """A callable at its present state; the callable itself counts where not all that it reads can
    be found.
    """

    def __init__(self, function: Callable) -> None:
        self.function, self.state = function, reachable_state(function)

    def __hash__(self) -> int:
        return hash(self.state.digest)

    def __eq__(self, other: Any) -> bool:
        return self is other or (
            isinstance(other, _StateKey)
            and self.state.digest == other.state.digest
            and (self.function is other.function or (self.state.complete and other.state.complete))
        )


class _Key:
    """A nested tuple that is hashed once."""

    def __init__(self, parts: tuple) -> None:
        self.parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        return self is other or (
            isinstance(other, _Key) and self._hash == other._hash and self.parts == other.parts
        )


def _key(value: Any, above: tuple[int, ...], deepest: int = 20) -> Any:
    key = _atom_key(value)
    if key is not None:
        return key
    if id(value) in above:
        return "recursion", above.index(id(value))
    if len(above) > deepest:
        raise UnknownDependencyError("it goes too deep")
    return _nested_key(value, functools.partial(_key, above=(*above, id(value))))


def _atom_key(value: Any) -> tuple | None:
    """The key of a number, a string or a dtype; None for anything else."""
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind in (float, complex):
        return kind, repr(value)  # -0.0 and 0.0 are equal numbers
    if isinstance(value, np.generic):
        return kind, value.tobytes()
    return (np.dtype, str(value)) if isinstance(value, np.dtype) else None


def _nested_key(value: Any, inner: Callable[[Any], Any]) -> tuple:
    """The key of a value that holds others, whose keys `inner` makes."""
    kind = type(value)
    if kind is tuple:
        key = kind, *map(inner, value)
    elif isinstance(value, jax.Array):
        key = _array(value)
    elif kind is types.FunctionType:
        key = _function(value, inner)
    elif kind is functools.partial:
        keywords = tuple((name, inner(one)) for name, one in value.keywords.items())
        key = kind, inner(value.func), inner(value.args), keywords
    elif kind is JITTED and not in_library(value):
        key = kind, inner(unwrap(value))
    elif isinstance(value, FIXED) and in_library(value):
        key = "library", value
    else:
        raise UnknownDependencyError(f"it uses an object of {kind.__name__}")
    return key


def _function(function: types.FunctionType, inner: Callable[[Any], Any]) -> tuple:
    if vars(function).keys() - {"__wrapped__"} or writes(function.__code__):
        raise UnknownDependencyError("it changes when it is called")
    used = values_in_use(function)
    return function.__code__, tuple((name, inner(one)) for name, one in used.items())


def _array(value: jax.Array, largest: int = 1000) -> tuple:
    if isinstance(value, jax.core.Tracer) or value.size > largest or len(value.devices()) > 1:
        raise UnknownDependencyError("it uses a large array")
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise UnknownDependencyError("it uses a random key")
    return "array", value.shape, str(value.dtype), value.weak_type, np.asarray(value).tobytes()
