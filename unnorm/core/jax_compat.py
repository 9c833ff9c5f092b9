"""What the package needs of JAX beyond its public interface. Private names of JAX stand here alone.

`avoid_wrong_fusions` disables a compiler pass of jaxlib 0.10.2 that returns wrong values on CPU.
Its fusions of dot products and reductions (YNNPACK) read the wrong rows of large batches:
jit(vmap(f)) of f(r) = Σ (M r)² is wrong from lane 16,384 on in float64, and from 32,768 on in
float32; a regression's log-density was -1105.6 for -306.8 in lane 0 of 10,000. No number of lanes
is known to be safe, so smaller batches are no remedy. Compile options, unlike XLA_FLAGS, also work
after JAX has computed.

References:
    https://github.com/jax-ml/jax/issues/39103
"""

import contextlib
from collections.abc import Iterator
from functools import wraps
from typing import Any

import jax
import jaxlib

AFFECTED = {"0.10.2"}  # others may not know the option, and an unknown one is an error
FUSIONS_OFF = {"xla_cpu_experimental_ynn_fusion_type": ""}


def avoid_wrong_fusions() -> None:
    """Compile without these fusions on CPU in this process; do nothing for other versions of
    jaxlib.
    """
    if jaxlib.__version__ not in AFFECTED:
        return
    from jax._src import compiler

    original = compiler.get_compile_options
    if hasattr(original, "__wrapped__"):  # the package was reloaded
        return

    @wraps(original)
    def get_compile_options(*args: Any, **kwargs: Any) -> Any:
        backend = kwargs.get("backend")
        if backend is not None and backend.platform == "cpu":
            overrides = kwargs.get("env_options_overrides") or {}
            kwargs["env_options_overrides"] = FUSIONS_OFF | dict(overrides)
        return original(*args, **kwargs)

    compiler.get_compile_options = get_compile_options


def backends_are_initialized() -> bool:
    """Whether JAX has started its devices, after which their number is fixed."""
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


def distributed_state() -> Any:
    """What `jax.distributed.initialize` set: `client`, `num_processes`, `process_id`."""
    from jax._src import distributed

    return distributed.global_state


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


__all__ = ["avoid_wrong_fusions", "backends_are_initialized", "distributed_state", "plain_jax"]
