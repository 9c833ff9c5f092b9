"""Where the sums over a count's states 0, 1, 2, ... may end, so that what is left out does not
matter.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.interactions.conditionals import coordinates_of, variable_of_entries

TAIL = 1e-12  # mass of a conditional that may lie beyond the last state
_LEAST, _DOUBLINGS = 32, 8  # states summed over at least; how often twice as many are tried
_ROWS = 64  # at once


def has_counts(density) -> bool:
    return any(
        support.discrete and support.states is None for support in density.variables.values()
    )


def states_of_data(density, events: dict) -> int:
    """A power of two above twice the largest count: other data of about that size compile
    nothing.
    """
    names = [
        name
        for name, support in density.variables.items()
        if support.discrete and support.states is None
    ]
    largest = max(float(np.max(np.asarray(events[name]))) for name in names)
    return max(_LEAST, 2 ** int(np.ceil(np.log2(2 * largest + 2))))


def states_needed(density, events: dict, first: int) -> int | None:
    """How many states, the first number doubled, leave less than `TAIL` out at every entry; None
    where none do.
    """
    tries = (first * 2**k for k in range(_DOUBLINGS + 1))
    return next(
        (count for count in tries if float(largest_tail(density, events, count)) < TAIL), None
    )


@functools.partial(jax.jit, static_argnums=2)
def largest_tail(density, events: dict, count: int) -> jax.Array:
    """The largest mass that a conditional has beyond `count` states, by the masses of its last two
    octaves.

    Each further octave is taken to fall as the last one fell: exact for a power of the count, too
    much for lighter tails.
    """
    owners = variable_of_entries(density)
    entries = jnp.asarray(
        [i for i, name in enumerate(owners) if density.variables[name].states is None]
    )

    def of_row(event):
        flat, back = coordinates_of(density, event)

        def of_entry(entry):
            states = jnp.arange(count, dtype=flat.dtype)
            values = jax.vmap(lambda state: density.log_density(back(flat.at[entry].set(state))))(
                states
            )
            return tail_beyond(jax.nn.softmax(values))

        return jax.vmap(of_entry)(entries).max()

    return jax.lax.map(of_row, events, batch_size=_ROWS).max()


def tail_beyond(mass: jax.Array) -> jax.Array:
    """The mass beyond the end of a conditional's table, its octaves falling on as the last one
    fell; NaN stays NaN.
    """
    half = len(mass) // 2
    before, last = mass[half // 2 : half].sum(), mass[half:].sum()
    falls = last < before
    return jnp.where(
        last == 0, 0.0, jnp.where(falls, last**2 / jnp.where(falls, before - last, 1.0), jnp.inf)
    )
