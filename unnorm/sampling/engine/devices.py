"""Over which devices chains are spread."""

from typing import Any

import jax

from unnorm.core.jax_compat import backends_are_initialized


def use_devices(n: int) -> None:
    """Run chains on n devices of this host's CPU, one a core; to be called before JAX starts.

    Raises:
        ValueError: n is not a positive integer, or JAX has started with another number.

    Example:
        >>> import jax
        >>> import unnorm as un
        >>> un.use_devices(jax.local_device_count())  # as many as there are: nothing to change

    References:
        JAX documentation, Distributed arrays and automatic parallelization.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; it must be a positive integer; correct it.")
    if backends_are_initialized():
        if jax.local_device_count() != n:
            raise ValueError(
                f"use_devices was given {n} after JAX had started with "
                f"{jax.local_device_count()}; it must be called before any array is made; put "
                "un.use_devices first in the program."
            )
        return
    jax.config.update("jax_num_cpu_devices", n)


def devices_for(chains: int, device: Any) -> int:
    """How many of the host's devices share the chains evenly; one where the caller named a
    device.
    """
    if device is not None:
        return 1
    return max(n for n in range(1, jax.local_device_count() + 1) if chains % n == 0)
