"""The listed entries of all parameters as a function of the vector, and their Jacobian."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.loss import Loss


def free_entries(density, vector_of: Any, vector: jax.Array) -> jax.Array:
    """The entries of all parameters that a table lists, as a function of the vector."""
    values = density.at(vector_of(vector)).parameters
    parts = []
    for name, support in density.supports.items():
        shape = (
            np.shape(values[name])
            if not isinstance(values[name], dict) and hasattr(values[name], "shape")
            else ()
        )
        places = support.entries(shape)
        parts.append(
            values[name][tuple(np.transpose(places))].reshape(-1) if places else jnp.zeros(0)
        )
    return jnp.concatenate(parts) if parts else jnp.zeros(0)


def entries(loss: Loss, vector: jax.Array) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
    """The listed entries of all parameters, and their Jacobian in the vector when asked: the delta
    method's half.
    """
    here = loss.density, loss.state.nuisance, vector
    return np.asarray(_entries(*here)), lambda: np.asarray(_jacobian(*here))


def _all_entries(density: Any, nuisance: Any, vector: jax.Array) -> jax.Array:
    unravel = ravel_pytree((density.free(), nuisance))[1]
    return free_entries(density, lambda v: unravel(v)[0], vector)


_entries, _jacobian = compiled(_all_entries), compiled(jax.jacfwd(_all_entries, argnums=2))
