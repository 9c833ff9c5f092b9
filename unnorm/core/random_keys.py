"""Random keys made on the host: the numbers of `jax.random`, and nothing to compile.

`jax.random.key`, `split` and `fold_in` outside of a program compile one each, for every shape. The
generator of JAX is a function of a few integers, threefry-2x32, written here in NumPy.

References:
    Salmon, Moraes, Dror & Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.
    https://doi.org/10.1145/2063384.2063405
"""

from typing import Any

import jax
import numpy as np

_NAME = "threefry2x32"


def make_key(seed: int, always_threefry: bool = False) -> jax.Array:
    """`jax.random.key(seed)`, by the process's generator or always by this one.

    Example:
        >>> bool(make_key(3) == jax.random.key(3))
        True
    """
    if not _is_plain():
        return jax.random.key(seed, impl=_NAME if always_threefry else None)
    # in single precision JAX keeps 32 bits of a seed
    high = (int(seed) >> 32) & 0xFFFFFFFF if jax.config.jax_enable_x64 else 0  # type: ignore[attr-defined]
    return _wrap(np.array([high, int(seed) & 0xFFFFFFFF], np.uint32))


def split_keys(key: jax.Array, count: int = 2) -> tuple[jax.Array, ...]:
    """The keys of `jax.random.split(key, count)`, one by one.

    Example:
        >>> one, other = split_keys(make_key(3))
        >>> bool((jax.random.split(make_key(3))[1] == other))
        True
    """
    if not _on_host(key):
        return tuple(jax.random.split(key, count))
    return tuple(_wrap(one) for one in _hash_counts(key, count))


def key_array(key: jax.Array, count: int) -> jax.Array:
    """`jax.random.split(key, count)`, an array."""
    return _wrap(_hash_counts(key, count)) if _on_host(key) else jax.random.split(key, count)


def key_stretches(key: jax.Array, count: int, length: int) -> list[jax.Array]:
    """`jax.random.split(key, count)` in stretches of a length."""
    starts = range(0, count, length)
    if not _on_host(key):
        keys = jax.random.split(key, count)
        return [keys[start : start + length] for start in starts]
    words = _hash_counts(key, count)
    return [_wrap(words[start : start + length]) for start in starts]


def fold_in(key: jax.Array, data: int) -> jax.Array:
    """`jax.random.fold_in(key, data)`.

    Example:
        >>> bool(fold_in(make_key(3), 5) == jax.random.fold_in(make_key(3), 5))
        True
    """
    if not _on_host(key) or isinstance(data, jax.core.Tracer):
        return jax.random.fold_in(key, data)
    return _wrap(np.array(_threefry(_words(key), 0, int(data) & 0xFFFFFFFF), np.uint32))


def _hash_counts(key: jax.Array, count: int, fast: int = 16) -> np.ndarray:
    """(count, 2): the generator at 0, 1, ..., counted in 64 bits; a few of them without arrays."""
    words = _words(key)
    if count <= fast:
        found = [_threefry(words, 0, one) for one in range(count)]
        return np.array(found, np.uint32).reshape(count, 2)
    pair = _threefry(words, np.zeros(count, np.uint64), np.arange(count, dtype=np.uint64))
    return np.stack(pair, -1).astype(np.uint32)


def _words(key: jax.Array) -> tuple[int, int]:
    with jax.ensure_compile_time_eval():  # a key with a value has one inside a traced branch too
        first, second = np.asarray(jax.random.key_data(key))
    return int(first), int(second)


def _threefry(key: tuple[int, int], first: Any, second: Any) -> tuple[Any, Any]:
    """Twenty rounds of threefry-2x32 at two words, integers or arrays of 64 bits."""
    rotations = ((13, 15, 26, 6), (17, 29, 16, 24))
    schedule, low = (*key, key[0] ^ key[1] ^ 0x1BD11BDA), 0xFFFFFFFF
    x, y = (first + schedule[0]) & low, (second + schedule[1]) & low
    for stage in range(5):
        for turn in rotations[stage % 2]:
            x = (x + y) & low
            y = (((y << turn) | (y >> (32 - turn))) & low) ^ x
        x = (x + schedule[(stage + 1) % 3]) & low
        y = (y + schedule[(stage + 2) % 3] + stage + 1) & low
    return x, y


def _wrap(words: np.ndarray) -> jax.Array:
    return jax.random.wrap_key_data(words, impl=_NAME)  # type: ignore[arg-type]  # NumPy's too


def _is_plain() -> bool:
    config = jax.config
    return bool(
        config.jax_default_prng_impl == "threefry2x32"  # type: ignore[attr-defined]
        and config.jax_threefry_partitionable  # type: ignore[attr-defined]
    )


def _on_host(key: jax.Array) -> bool:
    """Whether this is a plain key with a value, of the generator that is written here."""
    return (
        not isinstance(key, jax.core.Tracer)
        and _is_plain()
        and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.ndim == 0
        and str(jax.random.key_impl(key)) in ("threefry2x32", "fry")
    )


__all__ = ["fold_in", "key_array", "key_stretches", "make_key", "split_keys"]
