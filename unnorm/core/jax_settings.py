"""JAX's settings that a user may have changed for other code, and that the verbs must not run
under.
"""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def plain_jax() -> Iterator[None]:
    """Run with these settings as JAX ships them, and leave the user's as they were.

    A verb meets NaN and infinite values on purpose, outside a support and in tails, and masks them.
    """
    plain = {
        "jax_debug_nans": lambda: jax.debug_nans(False),
        "jax_debug_infs": lambda: jax.debug_infs(False),
        "jax_numpy_rank_promotion": lambda: jax.numpy_rank_promotion("allow"),
        "jax_numpy_dtype_promotion": lambda: jax.numpy_dtype_promotion("standard"),
    }
    shipped = {"jax_numpy_rank_promotion": "allow", "jax_numpy_dtype_promotion": "standard"}
    with contextlib.ExitStack() as stack:
        for name, setting in plain.items():
            if getattr(jax.config, name) != shipped.get(name, False):
                stack.enter_context(setting())
        yield
