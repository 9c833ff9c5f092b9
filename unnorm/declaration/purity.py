"""Whether a density is a function of its arguments alone: JAX traces it once, and freezes what else
it reads.
"""

import contextlib
import random
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from unnorm.declaration.density import Density

_PURE: weakref.WeakSet = (
    weakref.WeakSet()
)  # functions that were looked at: a verb called again traces nothing twice


_CALLBACKS = frozenset({"pure_callback", "io_callback"})


def refuse_impure(p: Density, event: Mapping[str, Any] | None = None) -> None:
    """Raise where the function behind a density draws random numbers, or differs from call to call
    otherwise.

    It is traced again and compared, constants included. What cannot be traced is left to other
    checks.

    Args:
        p: the density.
        event: arrays or shapes by variable and covariate; None: of the declared shapes.

    Raises:
        ValueError: the traces differ, or the global state of `numpy.random` or `random` went on.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> impure = un.Density(lambda x: -np.random.rand() * x**2, {"x": un.Real})
        >>> refuse_impure(impure)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: Density <lambda> is not a function of its arguments alone: ...
    """
    functions = list(_functions(p))
    if all(_seen(function) for function in functions):
        return
    before = _global_states()
    try:
        event = {name: np.zeros(shape) for name, shape in p.shapes().items()} | dict(event or {})
        traces = [_content(p, event), _content(p, event)]
        if not _equal(*traces):  # a table that the first call prepared is no impurity
            traces = [traces[1], _content(p, event)]
    except Exception:  # every verb has its own sentence for what JAX cannot trace
        return
    called_back = _CALLBACKS.intersection(part for part in traces[0] if isinstance(part, str))
    changes = bool(called_back) and _values_differ(p, event)
    if changes or not _equal(*traces) or not _equal(before, _global_states()):
        raise ValueError(
            f"Density {p.name} is not a function of its arguments alone: two calls of it differ, "
            "as with random numbers, the time or a counter inside, which JAX would freeze at one "
            "value; expected the same log-density at each call; make these numbers outside, and "
            "pass them as constants."
        )
    for function in functions:
        _remember(function)


def _values_differ(p: Density, event: Mapping[str, Any]) -> bool:
    """Whether two calls at one event differ: a trace does not show what a callback returns."""
    call = jax.jit(lambda density, at: density.log_density(at))
    try:
        first, second = (np.asarray(call(p.for_jit(), dict(event))) for _ in range(2))
    except Exception:  # as where it cannot be traced
        return False
    return not np.array_equal(first, second, equal_nan=True)


def _functions(p: Density) -> Iterator[Callable]:
    if p.function is not None:
        yield p.function
    for factor in getattr(p, "factors", ()):
        yield from _functions(factor)


def _seen(function: Callable) -> bool:
    try:
        return function in _PURE
    except TypeError:  # neither hashable nor weakly referable
        return False


def _remember(function: Callable) -> None:
    with contextlib.suppress(TypeError):
        _PURE.add(function)


def _global_states() -> list[Any]:
    kind, keys, *rest = np.random.get_state()
    return [kind, keys, *rest, *random.getstate()[1]]


def _content(p: Density, event: Mapping[str, Any]) -> list[Any]:
    """Primitives, their plain parameters, literals and constants of a fresh trace, in double
    precision if possible.

    A clock that is read twice within a millisecond is one number in single precision.
    """
    arguments = jax.tree.map(np.asarray, (p.for_jit(), dict(event)))
    try:
        with jax.enable_x64(True):
            return _trace(*jax.tree.map(_as_double, arguments))
    except Exception:  # a density that fixes its precision
        return _trace(*arguments)


def _trace(p: Density, event: Mapping[str, Any]) -> list[Any]:
    traced = jax.make_jaxpr(lambda density, at: density.log_density(at))(
        p, event
    )  # a new function: JAX keeps traces
    return list(_walk(traced))


def _as_double(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf


def _walk(part: Any) -> Iterator[Any]:
    if isinstance(part, ClosedJaxpr):
        yield from part.consts
        yield from _walk(part.jaxpr)
    elif isinstance(part, Jaxpr):
        for equation in part.eqns:
            yield equation.primitive.name
            yield from (
                variable.val for variable in equation.invars if isinstance(variable, Literal)
            )
            for value in equation.params.values():
                yield from _walk(value)
        yield from (variable.val for variable in part.outvars if isinstance(variable, Literal))
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _walk(one)
    elif isinstance(part, int | float | str | np.ndarray | np.generic):
        yield part


def _equal(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return type(one) is type(other) and one == other
    one, other = np.asarray(one), np.asarray(other)
    inexact = one.dtype.kind in "fc" and other.dtype.kind in "fc"
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=inexact)


__all__ = ["refuse_impure"]
