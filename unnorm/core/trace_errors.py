"""What a declared function raises while JAX follows it, as one sentence about the density."""

import contextlib
import dis
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from unnorm.core.compilation.closed_over_arrays import call_by_precision

_UNTRACEABLE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
_RAISES = {dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]}
_DERIVATIVE = re.compile(r"differentiat|\bjvp|\bvjp|transpos", re.IGNORECASE)


class NoDerivativeError(ValueError):
    """A declared function has no derivative that JAX could take."""


def evaluate(function: Callable, name: str, positional: list, named: dict[str, Any]) -> Any:
    """The function's value at one event; whatever it raises becomes a sentence."""
    try:
        return call_by_precision(function, positional, named)
    except _UNTRACEABLE as error:
        raise ValueError(
            f"Density {name} cannot be traced by JAX ({type(error).__name__}); expected jax.numpy "
            "operations in place of NumPy's and jnp.where in place of if; rewrite the function "
            "with these."
        ) from None
    except Exception as error:
        if is_ours(error):
            raise
        if about_derivatives(error):
            raise NoDerivativeError(_no_derivative(name, error)) from None
        advice = "correct the function"
        if _has_training_layers(named):
            advice = (
                "put its networks into inference mode by equinox.nn.inference_mode, because a "
                "density has no noise"
            )
        raise ValueError(
            f"Density {name} raised {type(error).__name__} at one event: {first_line(error)}; "
            f"expected the log-density of one event; {advice}."
        ) from error


@contextlib.contextmanager
def explain_derivative_errors(name: str) -> Iterator[None]:
    """Turn JAX's word that something has no derivative into a sentence about the density of this
    name.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, NoDerivativeError) or is_ours(error) or not about_derivatives(error):
            raise
        raise NoDerivativeError(_no_derivative(name, error)) from None


def about_derivatives(error: Exception) -> bool:
    """Whether it says that something has no derivative."""
    return isinstance(error, NoDerivativeError) or (
        not is_ours(error) and bool(_DERIVATIVE.search(first_line(error)))
    )


def _no_derivative(name: str, error: Exception) -> str:
    return (
        f"Density {name} cannot be differentiated ({first_line(error)}); expected operations that "
        "JAX differentiates; rewrite it, such as with jax.lax.scan in place of a while_loop."
    )


def is_ours(error: BaseException) -> bool:
    """Whether this package raised it on purpose, so that its text is a sentence for users.

    JAX takes its own frames out of a traceback: the last one left may be of this package, but at a
    call.
    """
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or not place.tb_frame.f_globals.get("__name__", "").startswith("unnorm"):
        return False
    return place.tb_frame.f_code.co_code[place.tb_lasti] in _RAISES


def first_line(error: BaseException) -> str:
    """The first line of the error's message, without a final period."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _has_training_layers(values: dict[str, Any]) -> bool:
    """Whether a network holds layers, such as dropout, that are not in inference mode."""
    layers = jax.tree.leaves(values, is_leaf=lambda node: hasattr(node, "inference"))
    return any(getattr(layer, "inference", None) is False for layer in layers)
