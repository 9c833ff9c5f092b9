"""The noise of blocks of steps, by chain and absolute block."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.sampling.base import noise_of


class Phase:
    """Of a run; folded into the keys of its noise."""

    WARMUP = 0
    SAMPLING = 1


def block_steps(size: int, thin: int = 1, *, max_noise: int = 2**20) -> int:
    """Draws in a block for an event of so many numbers: a fixed function, never of chunks or
    chains. At most `max_noise` numbers are drawn at once for one chain.
    """
    return int(np.clip(max_noise // (size * thin), 1, 20))


@compiled(static_argnums=1)
def chain_keys(key: jax.Array, chains: int) -> jax.Array:
    """A key for each chain, whatever the process's default generator: `normals_like` counts on this
    one.
    """
    return jax.vmap(lambda chain: jax.random.fold_in(key, chain))(jnp.arange(chains))


def block_noise(
    kernel: Any, keys: jax.Array, phase: int, block: jax.Array, positions: dict, steps: int
) -> Any:
    """The noise (or the keys) of one block, (chains, steps, ...): to bring the steps to the front
    would cost a copy.
    """

    def one_chain(key, position):
        return noise_of(
            kernel, jax.random.fold_in(jax.random.fold_in(key, phase), block), position, steps
        )

    return jax.vmap(one_chain)(keys, positions)


def of_step(noise: Any, step: jax.Array) -> Any:
    """What of the noise of a block belongs to one step."""
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, step, 1, keepdims=False), noise
    )
