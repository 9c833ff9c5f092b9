"""A convolution that is fast on a CPU under `vmap`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class StridedConvolution(eqx.Module):
    """A 3 × 3 convolution of stride 2, channels last, as one matrix product over patches.

    XLA's own convolution falls back to slow loops on a CPU where it is batched by `vmap` and
    differentiated in the image: a step of contrastive divergence takes three times as long.

    Attributes:
        weight: (channels out, 9 × channels in).
        bias: (1, channels out).
    """

    weight: jax.Array
    bias: jax.Array

    def __init__(self, channels_in: int, channels_out: int) -> None:
        self.weight = jnp.zeros((channels_out, 9 * channels_in))
        self.bias = jnp.zeros((1, channels_out))

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        """Map (height, width, channels in) to (⌈height/2⌉, ⌈width/2⌉, channels out)."""
        return _patches(x) @ self.weight.T + self.bias[0]


def _patches(x: jax.Array) -> jax.Array:
    """The 3 × 3 neighbourhoods of every other pixel, (⌈h/2⌉, ⌈w/2⌉, 9 c)."""
    rows, columns = ((size + 1) // 2 for size in x.shape[:2])
    x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = [
        x[i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] for i in range(3) for j in range(3)
    ]
    return jnp.concatenate(shifted, -1)
