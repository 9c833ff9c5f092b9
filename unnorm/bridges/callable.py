"""Any JAX function as a Density."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from unnorm.core.messages import shown
from unnorm.declaration.density import Density
from unnorm.supports.base import Support


def from_callable(log_density: Callable, supports: Mapping[str, Support]) -> Density:
    """Return the Density of a JAX function of a dict, or of keyword arguments.

    log p̃(x) = log_density({name: value}) or log_density(name=value), the value of each variable
    inside its support.

    Args:
        log_density: takes one event and returns the scalar log-density up to a constant. It is
            called with keyword arguments where it has arguments of the variables' names, else with
            one dict.
        supports: ``{name: support}``, such as ``{"x": un.Real["d"], "rate": un.Positive}``.

    Returns:
        The Density; open dimensions are given by `with_dimensions`.

    Raises:
        TypeError: what is no function, or no dict of supports.
        ValueError: a function that has arguments for some of the variables and not for others.

    Example:
        >>> import jax.numpy as jnp
        >>> import unnorm as un
        >>> def log_density(at):
        ...     return -0.5 * jnp.sum(at["x"] ** 2) - at["rate"]
        >>> p = un.from_callable(log_density, {"x": un.Real[2], "rate": un.Positive})
        >>> float(p(x=[1.0, 1.0], rate=2.0))
        -3.0
        >>> un.from_callable(lambda x: -0.5 * x**2, {"x": un.Real})
        Density <lambda>(x: Real)

    References:
        Hyvärinen (2005), Journal of Machine Learning Research 6, 695-709 (densities known up to a
        constant).
    """
    if not callable(log_density):
        raise TypeError(
            f"from_callable was given {shown(log_density)}; expected a function of one event; "
            "pass the function that returns the log-density."
        )
    if not isinstance(supports, Mapping) or not supports:
        raise TypeError(
            f"supports is {shown(supports)}; expected a dict by variable; pass, for example, "
            "{'x': un.Real['d']}."
        )
    names = tuple(supports)
    return Density(Caller(log_density, names, _takes_names(log_density, names)), supports)


@dataclass(frozen=True)
class Caller:
    """The user's function, called with the variables in their order; equal for equal functions."""

    log_density: Callable
    names: tuple[str, ...]
    by_keyword: bool

    @property
    def __name__(self) -> str:
        return getattr(self.log_density, "__name__", type(self.log_density).__name__)

    def __call__(self, *values: jax.Array) -> Any:
        event = dict(zip(self.names, values, strict=True))
        return self.log_density(**event) if self.by_keyword else self.log_density(event)


def _takes_names(function: Callable, names: tuple[str, ...]) -> bool:
    """Whether the function takes the variables by name, and not in one dict."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in function
        return False
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in _COLLECTING]
    if any(p.kind is p.VAR_KEYWORD for p in parameters) or set(names) <= named:
        extra = [name for name in needed if name not in names]
        if not extra:
            return True
    elif len(needed) <= 1 and not set(names) & named:
        return False
    raise ValueError(
        f"log_density takes {', '.join(needed) or 'no arguments'}, and supports names "
        f"{', '.join(names)}; expected these as keyword arguments, or one argument that is a dict "
        "of them; make the names agree."
    )


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

__all__ = ["from_callable"]
