"""Truncation of the sums over a count's states 0, 1, 2, ... with negligible error."""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.interactions.conditionals import coordinates_of, variable_of_entries
from unnorm.interactions.options import COUNT_TABLES, CountTableOptions


def has_counts(density) -> bool:
    """Whether a discrete variable has infinitely many states."""
    return bool(_counts(density))


def _counts(density) -> list[str]:
    variables = density.variables.items()
    return [name for name, support in variables if support.discrete and support.states is None]


def states_of_data(density, events: dict, options: CountTableOptions = COUNT_TABLES) -> int:
    """A power of two above twice the largest count, so that similar data share a program."""
    largest = max(float(np.max(np.asarray(events[name]))) for name in _counts(density))
    return max(options.min_states, 2 ** int(np.ceil(np.log2(2 * largest + 2))))


def sufficient_states(
    density, events: dict, first: int, options: CountTableOptions = COUNT_TABLES
) -> int | None:
    """The first number of states, doubling from `first`, whose tails are below `options.tail`.

    None if no number within `options.doublings` suffices.
    """
    counts = (first * 2**k for k in range(options.doublings + 1))
    return next((n for n in counts if float(largest_tail(density, events, n)) < options.tail), None)


@compiled(static_argnums=(2, 3))
def largest_tail(
    density, events: dict, count: int, options: CountTableOptions = COUNT_TABLES
) -> jax.Array:
    """The largest mass that a conditional has beyond `count` states, by `tail_beyond`."""
    owners = variable_of_entries(density)
    entries = jnp.asarray(
        [i for i, name in enumerate(owners) if density.variables[name].states is None]
    )

    def of_row(event):
        flat, back = coordinates_of(density, event)

        def of_entry(entry):
            states = jnp.arange(count, dtype=flat.dtype)
            heights = jax.vmap(lambda state: density.log_density(back(flat.at[entry].set(state))))
            return tail_beyond(jax.nn.softmax(heights(states)))

        return jax.vmap(of_entry)(entries).max()

    return jax.lax.map(of_row, events, batch_size=options.rows).max()


def tail_beyond(mass: jax.Array) -> jax.Array:
    """The mass beyond the end of a conditional's table, extrapolated from its last two octaves.

    The ratio of the last two octaves is continued: exact for a power of the count, too large for
    lighter tails. NaN stays NaN.
    """
    half = len(mass) // 2
    before, last = mass[half // 2 : half].sum(), mass[half:].sum()
    falls = last < before
    return jnp.where(
        last == 0, 0.0, jnp.where(falls, last**2 / jnp.where(falls, before - last, 1.0), jnp.inf)
    )
