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
import threading
from collections.abc import Iterator
from functools import wraps
from typing import Any

import jax
import jaxlib
from jax._src import core as _core

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


def without_wrong_fusions() -> dict[str, str]:
    """The option of `jax.jit` on CPU that leaves these fusions out, where jaxlib needs it."""
    return FUSIONS_OFF if jaxlib.__version__ in AFFECTED else {}


def is_tracing() -> bool:
    """Whether a transformation of JAX is running, so that a call is a part of its program."""
    return not _core.trace_state_clean()


def backends_are_initialized() -> bool:
    """Whether JAX has started its devices, after which their number is fixed."""
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


def distributed_state() -> Any:
    """What `jax.distributed.initialize` set: `client`, `num_processes`, `process_id`."""
    from jax._src import distributed

    return distributed.global_state


_REPLACED: list[Any] = []  # of one process: what runs in it counts together
_REPLACED_LOCK = threading.Lock()


@contextlib.contextmanager
def compilation_cache_replaced(store: Any, least_seconds: float) -> Iterator[None]:
    """JAX's persistent cache is this object, in place of none, until the last of nested and
    parallel blocks ends.

    Args:
        store: with ``get(key)`` and ``put(key, value)``.
        least_seconds: what compiles faster is not put.
    """
    from jax._src import compilation_cache, config

    with _REPLACED_LOCK:
        _REPLACED.append(store)
        if compilation_cache._cache is None:
            compilation_cache._cache = store
    try:
        with config.persistent_cache_min_compile_time_secs(least_seconds):
            yield
    finally:
        with _REPLACED_LOCK:
            _REPLACED.remove(store)
            if not _REPLACED and compilation_cache._cache is store:
                compilation_cache._cache = None


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


__all__ = [
    "avoid_wrong_fusions", "backends_are_initialized", "compilation_cache_replaced",
    "distributed_state", "is_tracing", "plain_jax", "without_wrong_fusions",
]  # fmt: skip
