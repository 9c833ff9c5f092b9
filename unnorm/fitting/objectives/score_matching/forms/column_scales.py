"""What forms prepare: nothing, or the scale of every column."""

import jax
import jax.numpy as jnp


def nothing(name: str, support, values: jax.Array, options) -> None:
    """Return nothing: the form needs no scales."""
    return None


def spread(name: str, support, values: jax.Array, options) -> jax.Array:
    """Return the standard deviation of every column, the unit of distances to a bound."""
    scales = jnp.std(values, 0)
    if not bool(jnp.all(scales > 0)):
        raise ValueError(
            f"{name} has a column that never changes in the data; expected some spread; drop it, "
            "or pass more rows."
        )
    return scales
