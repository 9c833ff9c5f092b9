"""The values that a call of a function reaches, as one digest: arrays and objects may change in
place between two calls.
"""

import contextlib
import dis
import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from unnorm.core.compilation.function_identity import (
    UnknownDependencyError,
    in_library,
    names,
    unwrap,
    values_in_use,
    writes,
)
from unnorm.core.compilation.policy import Compiled

JITTED = type(jax.jit(lambda: 0))
FIXED = (  # of a library: what stays the same while a process runs
    types.ModuleType, type, types.BuiltinFunctionType, np.ufunc, jax.numpy.ufunc, JITTED,
    jax.custom_jvp, jax.custom_vjp, Compiled,
)  # fmt: skip
_CALLED = frozenset({"__call__", "__getattr__", "__getitem__"})  # of the special methods
_ATOMS = (type(None), type(...), bool, int, float, complex, str, bytes, np.generic, np.dtype)


_CHANGES = frozenset(
    {"append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update"}
)


class State(NamedTuple):
    """What a function reaches at one moment.

    Attributes:
        digest: equal while nothing of it has changed; empty where each call changes it.
        complete: whether all of it was found, so that functions of equal digests compute the same.
        kept: objects that are told apart by identity alone; held, so that no other takes the
            identity.
    """

    digest: bytes
    complete: bool
    kept: tuple[Any, ...]


def reachable_state(function: Callable, most: int = 20_000) -> State:
    """The state that a callable reaches through its closure, globals, attributes and arguments'
    defaults.

    Args:
        function: any callable.
        most: values that are looked at; what lies beyond is told apart by identity.

    Example:
        >>> import numpy as np
        >>> scale = np.ones(2)
        >>> scaled = functools.partial(np.multiply, scale)
        >>> before = reachable_state(scaled).digest
        >>> scale[0] = 3.0
        >>> before == reachable_state(scaled).digest
        False
    """
    walk = _Walk(most)
    try:
        walk.visit(function)
    except Exception:  # attributes of the user's objects may raise anything
        return State(b"", False, ())
    if walk.changed_by_calls:  # a counter, a list of what was seen: its state is never the same
        return State(b"", False, ())
    return State(walk.hash.digest(), walk.complete, tuple(walk.kept))


class _Walk:
    """A walk over values; each is fed to the hash once."""

    def __init__(self, most: int, deepest: int = 40) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.complete, self.changed_by_calls = True, False
        self.kept: list[Any] = []
        self.left, self.deepest, self.depth = most, deepest, 0
        self.seen: dict[int, int] = {}
        self.held: list[Any] = []  # so that no identity is taken over during the walk

    def tag(self, *parts: Any) -> None:
        self.hash.update(repr(parts).encode("utf-8", "surrogatepass"))

    def visit(self, value: Any) -> None:
        if isinstance(value, _ATOMS):
            self.tag(type(value).__name__, value)
        elif id(value) in self.seen:
            self.tag("again", self.seen[id(value)])
        elif self.left <= 0 or self.depth > self.deepest:
            self.by_identity(value)
        else:
            self.left -= 1
            self.seen[id(value)] = len(self.seen)
            self.held.append(value)
            self.depth += 1
            self.inside(value)
            self.depth -= 1

    def inside(self, value: Any) -> None:
        if isinstance(value, np.ndarray | jax.Array):
            self.array(value)
        elif isinstance(value, types.FunctionType):
            self.function(value)
        elif isinstance(value, types.MethodType | functools.partial):
            self.tag(type(value).__name__)
            self.several(_parts(value))
        elif isinstance(value, type):
            self.type(value)
        elif isinstance(value, FIXED) and in_library(value):
            self.tag("library", value.__class__.__name__, id(value))
        elif isinstance(value, types.ModuleType):
            self.by_identity(value)
        elif isinstance(value, dict | list | tuple | set | frozenset):
            self.container(value)
        elif unwrap(value) is not value:
            self.visit(unwrap(value))
        else:
            self.object(value)

    def several(self, values: Any) -> None:
        for value in values:
            self.visit(value)

    def by_identity(self, value: Any) -> None:
        self.complete = False
        self.kept.append(value)
        self.tag("object", id(value))

    def array(self, value: Any) -> None:
        if isinstance(value, jax.core.Tracer) or jax.dtypes.issubdtype(
            value.dtype, jax.dtypes.extended
        ):
            self.by_identity(value)
        elif value.dtype == object:
            self.several(value.ravel().tolist())
        else:
            self.tag("array", value.shape, str(value.dtype))
            self.hash.update(np.ascontiguousarray(value).tobytes())

    def function(self, value: types.FunctionType) -> None:
        self.tag("function", value.__module__, value.__qualname__, id(value.__code__))
        self.several(vars(value).values())
        if in_library(value) or _is_installed(value.__code__.co_filename):
            return
        self.changed_by_calls |= _changes_what_it_reads(value.__code__)
        try:
            used = values_in_use(value)
        except UnknownDependencyError:
            self.complete = False
            used = _closure(value)
        for name, one in used.items():
            self.tag(name)
            self.visit(one)

    def type(self, value: type) -> None:
        self.tag("class", value.__module__, value.__qualname__, id(value))
        module = sys.modules.get(value.__module__)
        if in_library(value) or _is_installed(getattr(module, "__file__", None) or ""):
            return
        for name, one in sorted(vars(value).items()):
            if not name.startswith("__") or name in _CALLED:
                self.tag(name)
                self.several(_parts(one) if isinstance(one, property) else [_plain(one)])
        self.several(value.__bases__)

    def container(self, value: Any) -> None:
        self.tag(type(value).__name__, len(value))
        if isinstance(value, dict):
            for key, one in value.items():
                self.tag(repr(key))
                self.visit(one)
        elif isinstance(value, set | frozenset):
            self.tag(sorted(map(repr, value)))
        else:
            self.several(value)

    def object(self, value: Any) -> None:
        fields = _fields(value)
        if fields is None:
            self.by_identity(value)
            return
        self.visit(type(value))
        for name, one in fields.items():
            self.tag(name)
            self.visit(one)


@functools.lru_cache(4096)
def _is_installed(path: str) -> bool:
    """Whether code belongs to Python or to an installed package, which stays as it is."""
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.startswith(place + os.sep) for place in places)


@functools.lru_cache(4096)
def _changes_what_it_reads(code: types.CodeType) -> bool:
    """Whether a call may change values that the next one reads."""
    stores = any(one.opname in ("STORE_ATTR", "STORE_SUBSCR") for one in dis.get_instructions(code))
    return writes(code) or stores or bool(names(code)[1] & _CHANGES)


def _closure(function: types.FunctionType) -> dict[str, Any]:
    """What can be seen of a function that also reads what its code does not name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a name without a value yet
            found[name] = cell.cell_contents
    read = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    return (
        found
        | read
        | dict(enumerate(function.__defaults__ or ()))
        | {name: value for name, value in (function.__kwdefaults__ or {}).items()}
    )


def _parts(value: Any) -> list[Any]:
    """What a method, a partial or a property calls, and with what."""
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, property):
        return [value.fget]
    return [value.func, value.args, value.keywords]


def _plain(value: Any) -> Any:
    """The function of a static or class method."""
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The attributes of an object; None where it has none that can be listed."""
    slots = [
        name
        for kind in type(value).__mro__
        for name in _as_tuple(vars(kind).get("__slots__", ()))
        if not name.startswith("__") and hasattr(value, name)
    ]
    if not hasattr(value, "__dict__") and not slots:
        return None
    return dict(getattr(value, "__dict__", {})) | {name: getattr(value, name) for name in slots}


def _as_tuple(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


__all__ = ["State", "reachable_state"]
