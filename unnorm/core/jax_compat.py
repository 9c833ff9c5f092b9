"""The private names of JAX that the package uses. Nothing else imports them."""

from typing import Any


def backends_are_initialized() -> bool:
    """Whether JAX has started its devices, after which their number is fixed."""
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


def distributed_state() -> Any:
    """What `jax.distributed.initialize` set: `client`, `num_processes`, `process_id`."""
    from jax._src import distributed

    return distributed.global_state


__all__ = ["backends_are_initialized", "distributed_state"]
