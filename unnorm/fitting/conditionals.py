"""The conditional of one entry of a discrete variable given all others: what needs no Z."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def log_odds(density, event: dict) -> list[jax.Array]:
    """log p̃(x with another state at one entry) − log p̃(x): for each variable (entries, states − 1)."""
    return [log_odds_of(*seen_by(density, event, name)) for name in density.variables]


def seen_by(density, event: dict, name: str) -> tuple[Callable, jax.Array, object]:
    """log p̃ as a function of one variable's value, the others standing at the event; that value; its support."""
    return lambda value: density.log_density(event | {name: value}), event[name], density.variables[name]


def log_odds_of(log_density: Callable, value: jax.Array, support) -> jax.Array:
    """The log-odds of every other state of every free entry (a tie of a graph is one), (entries, states − 1)."""
    free = support.unconstrain(value)
    states = jnp.asarray(support.states, free.dtype)
    places = np.array(list(np.ndindex(free.shape)), int).reshape(free.size, free.ndim)
    here = log_density(value)

    def moved(place, shift):
        own = jnp.argmin(jnp.abs(states - free[tuple(place)]))
        state = states[(own + shift) % len(states)]
        return log_density(support.constrain(free.at[tuple(place)].set(state))) - here

    shifts = jnp.arange(1, len(states))
    return jax.vmap(lambda place: jax.vmap(lambda shift: moved(place, shift))(shifts))(places)
