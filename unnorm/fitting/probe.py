"""What a fit looks at before anything long is compiled: its options, its start, and the density
there.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.messages import shown
from unnorm.declaration.composite.missing_entries import filled, missing_masks
from unnorm.declaration.density import Density
from unnorm.declaration.purity import refuse_impure
from unnorm.declaration.slots import refuse_unknown
from unnorm.fitting.solvers.sgd import AVERAGES
from unnorm.supports import PyTreeSupport


def check_options(
    p: Any,
    *,
    steps: Any,
    batch_size: Any,
    seed: Any,
    restarts: Any,
    dtype: Any,
    optimizer: Any,
    callback: Any,
    average: Any = None,
) -> None:
    """Refuse what is no density, and options that are not integers."""
    if not isinstance(p, Density):
        raise ValueError(
            f"fit was given {shown(p)}; expected a density; declare it with @un.density or "
            "un.Density(...)."
        )
    if restarts is None:
        raise ValueError(
            "restarts is None; expected an integer of at least 0; leave it out for the default."
        )
    numbers = (
        ("steps", steps, 1),
        ("batch_size", batch_size, 2),
        ("seed", seed, None),
        ("restarts", restarts, 0),
    )
    for name, value, least in numbers:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and (not whole or (least is not None and value < least)):
            bound = "" if least is None else f" of at least {least}"
            raise ValueError(
                f"{name} is {value!r}; expected an integer{bound}, or None; leave {name} out for "
                "the default."
            )
    if optimizer is not None and not all(
        callable(getattr(optimizer, part, None)) for part in ("init", "update")
    ):
        raise ValueError(
            f"optimizer is {optimizer!r}; expected an Optax optimizer; pass, for example, "
            "optax.adam(1e-3)."
        )
    if callback is not None and not callable(callback):
        raise ValueError(
            f"callback is {callback!r}; it must be a function of a dict; pass, for example, "
            "callback=print."
        )
    if average not in (None, *AVERAGES):
        raise ValueError(
            f"average is {average!r}; it must be None or one of {', '.join(AVERAGES)}; choose one "
            "of these."
        )
    if dtype is not None and np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype!r}; expected float32 or float64; pass one of the two.")


def bind_start(p: Density, start: Any) -> Density:
    """The density at the parameters that the user starts from."""
    if start is None:
        return p
    if not isinstance(start, Mapping):
        names = ", ".join(p.supports)
        raise ValueError(
            f"start is {start!r}; expected a dict by parameter; pass, for example, a dict with "
            f"values of {names}."
        )
    refuse_unknown("start", "parameter", start, p.supports)
    for name, value in start.items():
        support = p.supports[name]
        if not isinstance(support, PyTreeSupport) and np.ndim(value) == len(support.shape_axes):
            support.check(np.asarray(value), f"start of {name}")
    return p.bind(**start)


@compiled
def values_and_gradient(density: Density, events: dict) -> Any:
    """log p̃ of every row, and the gradient of their sum in the free parameters."""
    free, unravel = ravel_pytree(density.free())

    def total(vector):
        values = jax.vmap(density.at(unravel(vector)).log_density)(events)
        return values.sum(), values

    (_, values), gradient = jax.value_and_grad(total, has_aux=True)(free)
    return values, unravel(gradient)


def probe(density: Density, events: dict) -> None:
    """Turn a density that JAX cannot follow, or that is not finite at the start, into a sentence.

    Of latent variables and entries only some value is tried, at which the density may be zero: the
    loss tells more.
    """
    some_missing = bool(missing_masks(density.variables, events))
    if some_missing:
        complete = filled(density.variables, events)
        events = {name: jnp.asarray(value) for name, value in complete.items()}
    refuse_impure(density, {name: np.asarray(event)[0] for name, event in events.items()})
    latent = {name: support for name, support in density.variables.items() if name not in events}
    if latent:
        rows, shapes, dtype = (
            len(next(iter(events.values()))),
            density.shapes(),
            jnp.result_type(*events.values()),
        )
        inside = {
            name: support.constrain(jnp.zeros(support.free_shape(shapes[name]), dtype))
            for name, support in latent.items()
        }
        _traced(
            density,
            events
            | {
                name: jnp.broadcast_to(value, (rows, *value.shape))
                for name, value in inside.items()
            },
        )
        return
    values, gradient = _traced(density, events)
    if some_missing:
        return
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        place = ", ".join(f"{name} = {_short(event[row])}" for name, event in events.items())
        raise ValueError(
            f"Density {density.name} is {values[row]} at the start of the fit at data row {row}, "
            f"{place}; expected a finite log-density at every row; pass start= parameters at "
            "which it is, or correct the density there."
        )
    for name, part in gradient.items():
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(part)):
            raise ValueError(
                f"The gradient of {density.name} in the parameter {name} is not finite at the "
                f"start of the fit; expected finite numbers; pass another start={{{name!r}: "
                "...}, or correct the density there (a square root or division at 0 is the "
                "usual cause)."
            )


def _traced(density: Density, events: dict):
    try:
        return jax.tree.map(np.asarray, values_and_gradient(density, events))
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ValueError(
            f"Density {density.name} cannot be traced by JAX ({type(error).__name__}); expected "
            "jax.numpy operations in place of NumPy's and jnp.where in place of if; rewrite the "
            "function with these."
        ) from None


def _short(value: Any) -> str:
    return " ".join(np.array2string(np.asarray(value), precision=4, threshold=6).split())
