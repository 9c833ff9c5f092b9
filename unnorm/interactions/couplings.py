"""The couplings of two-state sites: fields and bonds, and the sites' states."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density


class Couplings(NamedTuple):
    """Fields and bonds; sites are in the order of `unnorm.interactions.coloring.discrete_names`.

    Each site has a row of neighbours, padded with `sites`, and of their bonds, padded with `bonds`.
    """

    fields: jax.Array  # (sites,): h
    strengths: jax.Array  # (bonds,): J
    neighbours: jax.Array  # (sites, largest degree): indices of sites
    bonds: jax.Array  # (sites, largest degree): indices of bonds


def signs_of(density: Density, position: dict) -> jax.Array:
    """A position as signs (sites,), +1 for the second state of a site; linear, for derivatives."""
    parts = []
    for name in sorted(position):
        low, high = density.variables[name].states
        parts.append((2 * (position[name] - low) / (high - low) - 1).ravel())
    return jnp.concatenate(parts)


def position_of(density: Density, signs: jax.Array, like: dict) -> dict:
    """Signs as a position with the shapes and types of `like`."""
    position, start = {}, 0
    for name in sorted(like):
        shape, states = like[name].shape, density.variables[name].states
        part = signs[start : start + math.prod(shape)].reshape(shape)
        position[name] = jnp.where(part > 0, states[1], states[0]).astype(like[name].dtype)
        start += math.prod(shape)
    return position


def fields_of(states: dict[str, jax.Array]) -> jax.Array:
    """Half the log-odds of every site's second state, from log-probabilities (*shape, 2)."""
    return jnp.concatenate(
        [((logs[..., 1] - logs[..., 0]) / 2).ravel() for _, logs in sorted(states.items())]
    )


def states_of(fields: jax.Array, like: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The log-probabilities with these fields, in the shapes of `like`."""
    signs = jnp.asarray([-1.0, 1.0], fields.dtype)
    cuts = np.cumsum([like[name].size // 2 for name in sorted(like)])[:-1]
    parts = dict(zip(sorted(like), jnp.split(fields, cuts), strict=True))
    return {
        name: jax.nn.log_softmax(parts[name][:, None] * signs).reshape(logs.shape)
        for name, logs in like.items()
    }
