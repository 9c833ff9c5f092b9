"""Any value as a short text that is the same in every process: what a store compares.

Numbers by content, functions by code and by what they use, objects by class and content. What
cannot be described so is marked, and a store whose description holds the mark is never continued.
"""

import dataclasses
import functools
import re
import types
from collections.abc import Callable, Mapping
from enum import Enum
from hashlib import sha256
from typing import Any

import jax
import numpy as np

from unnorm.core.compilation.function_identity import (
    UnknownDependencyError,
    in_library,
    unwrap,
    values_in_use,
)
from unnorm.core.compilation.policy import Compiled
from unnorm.declaration.density import Density
from unnorm.supports import Annotation

UNKNOWN = "something that cannot be compared"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def fingerprint(array: Any) -> str:
    """Numbers by their content: short ones as they are, long ones by hash."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiubc":
        content = array.tobytes() if array.dtype.kind != "O" else repr(array.tolist())
        return f"{array.dtype} array {_hash(content)}"
    if array.size <= 4:
        return str(array.tolist())
    return f"array {_hash(array.tobytes() + str((array.shape, array.dtype)).encode())}"


def describe_value(value: Any, *, max_length: int = 56) -> str:
    """The value as text; of a long text the beginning and a hash."""
    text = _describe(value, 0, ())
    if len(text) <= max_length:
        return text
    return f"{text[:36]}... ({_hash(text)})" + (f", with {UNKNOWN}" if UNKNOWN in text else "")


def program_of(function: Callable, *arguments: Any, source: Any = None) -> str:
    """A hash of what a function compiles to, its constants included; where it calls back into
    Python, `source` too.
    """
    lowered = jax.jit(function).lower(*arguments).as_text()
    return _hash(lowered) if "callback" not in lowered else _hash(lowered + describe_value(source))


def _hash(content: str | bytes) -> str:
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def _describe(value: Any, depth: int, above: tuple[int, ...]) -> str:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return str(value)
    deepest = 12  # of values inside values
    if depth > deepest or id(value) in above:
        return "..." if id(value) in above else UNKNOWN
    inner = functools.partial(_describe, depth=depth + 1, above=(*above, id(value)))
    for kinds, describe in _WAYS:
        if isinstance(value, kinds):
            return describe(value, inner)
    if hasattr(value, "dtype") and hasattr(value, "shape") and not hasattr(value, "to_numpy"):
        key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        return fingerprint(jax.random.key_data(value) if key else value)
    if hasattr(value, "to_numpy") or hasattr(value, "to_dict"):
        return _describe_table(value, inner)
    if dataclasses.is_dataclass(value):
        return _object(
            value, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, inner
        )
    return _node(value, inner)


def _describe_table(value: Any, inner: Callable) -> str:
    """A pandas or xarray object: by its numbers and labels."""
    kept = value.to_dict() if hasattr(value, "to_dict") else value.to_numpy().tolist()
    return f"{type(value).__name__} {_hash(inner(kept))}"


def _node(value: Any, inner: Callable) -> str:
    """A pytree node by its parts, else an object."""
    if hasattr(
        type(value), "gather_pytree_data_fields"
    ):  # NumPyro: its parts come in the order of a set, and the
        kinds = (
            value.gather_pytree_data_fields(),
            value.gather_pytree_aux_fields(),
        )  # rest of it holds caches
        names = [name for kind in kinds for name in sorted(kind)]
        return _object(value, {name: vars(value).get(name) for name in names}, inner)
    structure: Any = jax.tree.structure(value, is_leaf=lambda one: one is not value)
    node = structure.node_data()
    if node is None:
        fields = getattr(value, "__dict__", None)
        return _object(value, fields and dict(sorted(fields.items())), inner)
    children = jax.tree.leaves(value, is_leaf=lambda one: one is not value)
    return f"{_class(type(value), inner)}({', '.join(map(inner, children))}; {inner(node[1])})"


def _object(value: Any, fields: Mapping[str, Any] | None, inner: Callable) -> str:
    if fields is None:
        text = repr(value)
        return UNKNOWN if _ADDRESS.search(text) else f"{type(value).__name__} {text}"
    content = ", ".join(f"{name}={inner(one)}" for name, one in fields.items())
    return f"{_class(type(value), inner)}({content})"


def _class(cls: type, inner: Callable) -> str:
    """A class of the user's brings the code of its methods."""
    if in_library(cls):
        return cls.__qualname__
    methods = {name: one for name, one in vars(cls).items() if isinstance(one, types.FunctionType)}
    content = "".join(name + inner(one) for name, one in sorted(methods.items()))
    return f"{cls.__qualname__} {_hash(content)}"


def _function(function: types.FunctionType, inner: Callable) -> str:
    """Name, code, and what the code uses."""
    name = function.__qualname__.replace("<locals>.", "")
    try:
        used = values_in_use(function, indirect=True)
    except UnknownDependencyError:
        return f"{name} {_hash(_code(function.__code__))} with {UNKNOWN}"
    text = _code(function.__code__) + "".join(f"{key}: {inner(one)}; " for key, one in used.items())
    return f"{name} {_hash(text)}" + (f" with {UNKNOWN}" if UNKNOWN in text else "")


def _code(code: types.CodeType) -> str:
    consts = [_code(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    return repr((code.co_code.hex(), consts, code.co_names, code.co_varnames[: code.co_argcount]))


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _density(p: Density, inner: Callable) -> str:
    values = p.parameters | p.constants
    factors, powers = getattr(p, "factors", None), getattr(p, "powers", None)
    inside = inner(factors) + inner(powers) if factors else inner(p.function)
    return f"Density {p.name}({inner(p.variables)}, {inner(values)}, {inside})"


def _names_or_function(value: Any, inner: Callable) -> str:
    """Something callable that is no plain function: by name if a library's, else by what it
    wraps.
    """
    function = unwrap(value)
    if isinstance(function, types.FunctionType):
        return inner(function)
    name = getattr(value, "__qualname__", getattr(value, "__name__", None))
    return f"{name}" if name and in_library(value) else UNKNOWN


def _numbers_of(support: Annotation) -> str:
    """The numbers of a support in full, where its own text could leave digits out."""
    fields = {
        f.name: getattr(support, f.name) for f in dataclasses.fields(support) if f.name != "axes"
    }
    return (
        f" {_hash(repr({name: fingerprint(one) for name, one in fields.items()}))}"
        if fields
        else ""
    )


_PLAIN_CALLABLE = (types.BuiltinFunctionType, np.ufunc, type(jax.jit(lambda: 0)), Compiled)
# In this order: what an object of these kinds is described by.
_WAYS: tuple[tuple[Any, Callable[[Any, Callable], str]], ...] = (
    (Enum, lambda value, inner: str(value)),
    (Density, _density),
    (Annotation, lambda value, inner: f"{value!r}{_numbers_of(value)}"),
    (types.FunctionType, _function),
    (types.MethodType, lambda value, inner: f"{inner(value.__func__)} of {inner(value.__self__)}"),
    (
        functools.partial,
        lambda v, inner: f"partial({inner(v.func)}, {inner(v.args)}, {inner(v.keywords)})",
    ),
    (types.ModuleType, lambda value, inner: f"module {value.__name__}"),
    (type, _class),
    (np.dtype, lambda value, inner: str(value)),
    (_PLAIN_CALLABLE, _names_or_function),
    (
        Mapping,
        lambda v, inner: (
            "{"
            + ", ".join(f"{name}: {inner(one)}" for name, one in sorted(v.items(), key=str))
            + "}"
        ),
    ),
    ((set, frozenset), lambda value, inner: "{" + ", ".join(sorted(map(inner, value))) + "}"),
    ((list, tuple), lambda value, inner: "(" + ", ".join(map(inner, value)) + ")"),
)
