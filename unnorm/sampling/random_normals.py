"""Standard normal noise for the chains: most of a step's cost where a density is cheap.

Threefry's two words (the bits that JAX's own generator would give) become a pair of normals by Box
and Muller's map, all in one fused loop; `jax.random.normal` uses one word of each two, and inverts
the normal distribution function.

References: Salmon et al. (2011), doi:10.1145/2063384.2063405; Box and Muller (1958),
doi:10.1214/aoms/1177706645.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp


def normals_like(key: jax.Array, tree: Any, leading: tuple[int, ...] = ()) -> Any:
    """Standard normal noise in the shape of a pytree, with leading axes before each leaf's own."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        normal(k, leading + leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, drawn)


def normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normals; other dtypes than float32, and other generators, are left to JAX."""
    count = math.prod(shape)
    if jnp.dtype(dtype) != jnp.float32 or jax.random.key_impl(key) != "threefry2x32" or count < 2:
        return jax.random.normal(key, shape, dtype)
    half = (count + 1) // 2
    numbers = jnp.arange(half, dtype=jnp.uint32)
    first, second = threefry(jax.random.key_data(key), numbers, numbers + jnp.uint32(half))
    uniform = (0.5 + (first >> 8).astype(jnp.float32)) * jnp.float32(2.0**-24)  # inside (0, 1)
    radius = jnp.sqrt(-2 * jnp.log(uniform))
    sine, cosine = _on_circle(
        jax.lax.bitcast_convert_type(second, jnp.int32).astype(jnp.float32) * 2.0**-32
    )
    return jnp.concatenate([radius * cosine, radius * sine])[:count].reshape(shape)


def threefry(key: jax.Array, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 of 20 rounds, unrolled: JAX rolls it into a loop on CPUs, which nothing fuses
    with.
    """
    rotations = (13, 15, 26, 6), (17, 29, 16, 24)
    parity = jnp.uint32(0x1BD11BDA)
    parts = key[0], key[1], key[0] ^ key[1] ^ parity
    first, second = first + parts[0], second + parts[1]
    for group in range(5):
        for turn in rotations[group % 2]:
            first = first + second
            second = first ^ ((second << jnp.uint32(turn)) | (second >> jnp.uint32(32 - turn)))
        first = first + parts[(group + 1) % 3]
        second = second + parts[(group + 2) % 3] + jnp.uint32(group + 1)
    return first, second


def _on_circle(turns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sin and cos of 2π t for t in [-1/2, 1/2], by those of half the angle."""
    square = turns * turns
    # Least-squares polynomials in t² of sin(πt)/t and cos(πt) on [-1/2, 1/2], off by less than 1e-8
    of_sine = (3.14159264, -5.16771008, 2.55007752, -0.59829129, 0.07765766)
    of_cosine = (1.0, -4.93480214, 4.05870916, -1.335212, 0.23493731, -0.02439632)
    sine, cosine = turns * _polynomial(of_sine, square), _polynomial(of_cosine, square)
    return 2 * sine * cosine, 1 - 2 * sine * sine


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    out = jnp.float32(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        out = out * x + jnp.float32(coefficient)
    return out
