"""The margins of an objective: differences of log p̃ in each of which its loss decreases.

They compare the observed states with the states that could have been observed instead. Where log p̃
is linear in the parameters so are they, and whether a finite estimate exists is decided by linear
programmes (`margin_recession`).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.integration.states import count_states, enumerate_states
from unnorm.interactions.conditionals import groups_of, log_odds, not_enumerable
from unnorm.interactions.count_states import has_counts


@dataclass(frozen=True)
class MarginOptions:
    """Which states are compared with the data."""

    max_states: int = 2**13  # joint states, each compared with the data
    # Counts beyond all data, in multiples of the largest.
    far_counts: tuple[float, ...] = (10.0, 1e3, 1e6)


MARGINS = MarginOptions()


def state_margins(density, events: dict) -> jax.Array:
    """Return log p̃(x) − log p̃(y) of every row x and every state y.

    Without covariates one row replaces all: no direction of recession changes the differences
    between observed states, which are therefore included with both signs.
    """
    if density.covariates:
        return _of_states_at_rows(density, events)
    log_density = jax.vmap(density.log_density)
    seen = log_density(events)
    return jnp.concatenate(
        [seen[0] - log_density(enumerate_states(density)), seen - seen[0], seen[0] - seen]
    )


def _of_states_at_rows(density, events: dict) -> jax.Array:
    states = enumerate_states(density)

    def at_row(event):
        here = density.log_density(event)
        return here - jax.vmap(lambda state: density.log_density(event | state))(states)

    return jax.vmap(at_row)(events).ravel()


def neighbour_margins(density, events: dict) -> jax.Array:
    """Return log p̃(x) − log p̃(y) of every row x and every y that differs from it in one entry.

    Of a count only a few other values are compared.
    """
    listed = [name for name, support in density.variables.items() if support.states is not None]
    parts = [jnp.zeros(0)]
    if listed:
        parts.append(_of_states_of_entries(density, events, listed))
    log_density = jax.vmap(density.log_density)
    for name, support in density.variables.items():
        if support.states is None:
            value = events[name]
            here, flat = log_density(events), value.reshape(len(value), -1)
            for column in range(flat.shape[1]):
                for other in _other_counts(flat[:, column]):
                    changed = flat.at[:, column].set(other).reshape(value.shape)
                    parts.append(here - log_density(events | {name: changed}))
    return jnp.concatenate(parts)


def _of_states_of_entries(density, events: dict, listed: list[str]) -> jax.Array:
    rest = (
        density
        if len(listed) == len(density.variables)
        else density._observing(tuple(name for name in density.variables if name not in listed))
    )
    groups = groups_of(rest)
    odds = jax.vmap(lambda event: log_odds(rest, event, groups))(events)
    return jnp.concatenate([-part.ravel() for part in odds])


def _other_counts(column: jax.Array) -> list[jax.Array]:
    """Return counts to compare with: zero, one fewer, one more, and some beyond all data."""
    far = [
        jnp.full_like(column, 0.0) + jnp.ceil(by * (1 + column.max())) for by in MARGINS.far_counts
    ]
    return [jnp.zeros_like(column), jnp.maximum(column - 1, 0.0), column + 1, *far]


def likelihood_margins(density, events: dict) -> jax.Array | None:
    """Return the margins of the likelihood: of all states if they are few, else of neighbours.

    None where a variable is continuous or latent.
    """
    if latent_variables(density.variables, events) or any(
        not support.discrete for support in density.variables.values()
    ):
        return None
    states = count_states(density)
    rows = len(next(iter(events.values()))) if density.covariates else 1
    if states is not None and states * rows <= MARGINS.max_states:
        return state_margins(density, events)
    return neighbour_margins(density, events)


def conditional_margins(density, events: dict, blocks: tuple | None = None) -> jax.Array | None:
    """Return the margins of an objective of conditionals, of one entry or of a block.

    None where the states cannot be enumerated.
    """
    if latent_variables(density.variables, events) or not_enumerable("", density):
        return None
    if blocks is None or has_counts(density):
        return neighbour_margins(density, events)
    groups = groups_of(density, blocks)
    odds = jax.vmap(lambda event: log_odds(density, event, groups))(events)
    return jnp.concatenate([-part.ravel() for part in odds])


def distinct_rows(events: dict) -> dict:
    """Return each row once."""
    flat = np.concatenate(
        [np.asarray(value).reshape(len(value), -1) for value in events.values()], 1
    )
    first = np.sort(np.unique(flat, axis=0, return_index=True)[1])
    return {name: jnp.asarray(value)[first] for name, value in events.items()}


__all__ = [
    "conditional_margins",
    "distinct_rows",
    "likelihood_margins",
    "neighbour_margins",
    "state_margins",
]
