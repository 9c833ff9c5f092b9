"""NumPy arrays in a user's function that is run in float32 and in float64, by sampling and for log
Z.

JAX 0.10 keeps the form in which it first traced an array for as long as any compiled function uses
it, whatever the precision that is asked for later: jnp.sum(h * x) with an array h of float64 could
not be sampled in float32 ("requires compatible element types") once its interactions had been
probed in float64.
"""

import weakref
from typing import Any

import numpy as np
from jax.dtypes import canonicalize_dtype

_views: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def trace_arrays_by_precision() -> None:
    """Let JAX look at the precision of the day whenever it traces a NumPy array; nothing where its
    insides differ.
    """
    try:
        from jax._src.dtypes import register_canonicalize_value_handler
        from jax._src.literals import TypedNdArray
    except ImportError:
        return

    def canonical(array: np.ndarray) -> Any:
        dtype = canonicalize_dtype(array.dtype)
        if dtype != array.dtype:
            return TypedNdArray(np.asarray(array, dtype))
        found = _views.get(
            id(array)
        )  # one constant however often a function uses it; a view keeps its array alive
        if found is None or found.base is not array:
            found = _views[id(array)] = TypedNdArray(array)
        return found

    register_canonicalize_value_handler(np.ndarray, canonical)


__all__ = ["trace_arrays_by_precision"]
