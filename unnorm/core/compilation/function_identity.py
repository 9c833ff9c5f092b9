"""What a Python function depends on besides its arguments: code, defaults, closed-over values, the
globals it names.
"""

import builtins
import dis
import functools
import types
from collections.abc import Callable
from typing import Any

# Code that stays as it is while a process runs, and whose versions a store records.
LIBRARIES = frozenset({
    "blackjax", "builtins", "chex", "distrax", "equinox", "flowjax", "functools", "itertools",
    "jax", "jaxlib", "math", "numpy", "numpyro", "operator", "optax", "optimistix", "scipy",
    "unnorm",
})  # fmt: skip
# Builtins through which a call may read what its code does not name; the second set reads only what
# it is handed.
_HIDDEN = frozenset({"eval", "exec", "globals", "locals", "open", "input", "__import__"})
_INDIRECT = frozenset({"getattr", "vars", "next"})


class UnknownDependencyError(Exception):
    """The function depends on something that its code does not name."""


def in_library(value: Any) -> bool:
    """Whether a module, class or function belongs to one of LIBRARIES."""
    name = (
        value.__name__
        if isinstance(value, types.ModuleType)
        else getattr(value, "__module__", None)
    )
    return isinstance(name, str) and name.partition(".")[0] in LIBRARIES


@functools.lru_cache(4096)
def names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The globals, attributes and modules that a code names, with those of the functions inside."""
    found: tuple[set, set, set] = (set(), set(), set())
    for instruction in dis.get_instructions(code):
        kind = instruction.opname
        place = (
            0
            if kind in ("LOAD_GLOBAL", "LOAD_NAME")
            else 1
            if kind in ("LOAD_ATTR", "LOAD_METHOD")
            else None
        )
        place = 2 if kind == "IMPORT_NAME" else place
        if place is not None:
            found[place].add(instruction.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for own, more in zip(found, names(inner), strict=True):
                own |= more
    loaded, attributes, imported = map(frozenset, found)
    return loaded, attributes, imported


@functools.lru_cache(4096)
def writes(code: types.CodeType) -> bool:
    """Whether a call assigns to globals or to names of an enclosing function."""
    stored = any(
        one.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
        or (one.opname in ("STORE_DEREF", "DELETE_DEREF") and one.argval in code.co_freevars)
        for one in dis.get_instructions(code)
    )
    return stored or any(
        writes(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)
    )


def values_in_use(function: types.FunctionType, indirect: bool = False) -> dict[str, Any]:
    """Every value that a call may read: ``{"closure k": 2.0, "default 0": ..., "global SCALE":
    ...}``.

    Of a library's function the globals are left out. `indirect` look-ups (getattr) count as known
    where asked for.

    Raises:
        UnknownDependencyError: a name that has no value yet, an import of other than a library,
            or a look-up by a computed name.
    """
    code, found = function.__code__, {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[f"closure {name}"] = cell.cell_contents
        except ValueError:
            raise UnknownDependencyError(f"{name} has no value yet") from None
    found |= {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
    found |= {f"default {name}": value for name, value in (function.__kwdefaults__ or {}).items()}
    if in_library(function):
        return found
    read, attributes, imported = names(code)
    for name in sorted(read & (_HIDDEN if indirect else _HIDDEN | _INDIRECT)):
        raise UnknownDependencyError(f"it uses {name}")
    for name in sorted(imported):
        if name.partition(".")[0] not in LIBRARIES:
            raise UnknownDependencyError(f"it imports {name}")
    for name in sorted(read):
        found |= _global(function, name, attributes)
    return found


def _global(function: types.FunctionType, name: str, attributes: frozenset[str]) -> dict[str, Any]:
    """What a global name stands for; of a module of the user's, what is read from it."""
    if name not in function.__globals__:
        if not hasattr(builtins, name):
            raise UnknownDependencyError(f"{name} has no value yet")
        return {}
    value = function.__globals__[name]
    if not isinstance(value, types.ModuleType) or in_library(value):
        return {f"global {name}": value}
    return {
        f"global {name}.{one}": getattr(value, one)
        for one in sorted(attributes)
        if hasattr(value, one)
    }


def unwrap(function: Callable) -> Callable:
    """The function behind `jax.jit` and the like, where it can be seen."""
    while not isinstance(function, types.FunctionType) and hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function
