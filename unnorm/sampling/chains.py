"""The compiled part of sampling: blocks of steps over all chains, with and without adaptation.

Noise keys fold in (chain, absolute block), and a block is a fixed number of steps, so that how a run is cut into chunks
changes no bit of it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.sampling import adaptation
from unnorm.sampling.base import Target

WARMUP, SAMPLING = 0, 1
_LARGEST_NOISE = 2**20  # numbers drawn at once for one chain


def block_steps(size: int, thin: int = 1) -> int:
    """Draws in a block for an event of so many numbers: a fixed function, never of chunks or chains."""
    return int(np.clip(_LARGEST_NOISE // (size * thin), 1, 20))


def chain_keys(key: jax.Array, chains: int) -> jax.Array:
    return jax.vmap(lambda chain: jax.random.fold_in(key, chain))(jnp.arange(chains))


def _block_noise(kernel: Any, keys: jax.Array, phase: int, block: jax.Array, positions: dict, steps: int):
    """The noise (or the keys) of one block: (steps, chains, ...)."""

    def one_chain(key, position):
        key = jax.random.fold_in(jax.random.fold_in(key, phase), block)
        step_keys = jax.random.split(key, steps)
        return step_keys if kernel.noise is None else jax.vmap(lambda k: kernel.noise(k, position))(step_keys)

    return jax.vmap(one_chain, out_axes=1)(keys, positions)


def _steps(kernel: Any, target: Target, tuning: dict, states: Any, noise: Any):
    """One step of every chain."""
    step = kernel.build(target, tuning).step
    states, info = jax.vmap(step)(noise, states)
    stats = jax.vmap(kernel.stats)(info)
    log_density = getattr(states, "logdensity", None)
    return states, stats if log_density is None else stats | {"lp": log_density}


@jax.jit
def initialise(kernel: Any, target: Target, tuning: dict, positions: dict, keys: jax.Array):
    """The states of all chains at their starts."""
    return jax.vmap(kernel.build(target, tuning).init)(positions, keys)


@jax.jit
def begin_adaptation(kernel: Any, tuning: dict, positions: dict):
    begun = adaptation.begin(kernel, tuning, jax.tree.map(lambda leaf: leaf[0], positions))
    return jax.tree.map(lambda leaf: _strong(leaf, tuning), begun)


def _strong(leaf: Any, tuning: dict) -> Any:
    """A weakly typed number would become a strong one after the first chunk, and compile warm-up twice."""
    return (
        jnp.asarray(leaf, jnp.result_type(*tuning.values()))
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        else leaf
    )


@jax.jit
def finish_adaptation(kernel: Any, adapting: Any, tuning: dict):
    return adaptation.finish(kernel, adapting, tuning)


@functools.partial(jax.jit, static_argnames="block_size")
def warm_chunk(kernel, target, tuning, states, adapting, keys, blocks, stages, *, block_size: int):
    """Run whole blocks of warm-up steps; `stages` holds (stage, window end) of each step of each block."""

    def one_step(carry, given):
        states, adapting = carry
        noise, stage = given
        states, stats = _steps(kernel, target, adaptation.current(kernel, adapting, tuning), states, noise)
        acceptance = stats.get("acceptance_rate", jnp.ones(1))
        adapting = adaptation.advance(kernel, adapting, states.position, acceptance, stage)
        return (states, adapting), (jnp.mean(acceptance), stats.get("inf_proposal", jnp.zeros(1, bool)).any())

    def one_block(carry, given):
        block, stage = given
        noise = _block_noise(kernel, keys, WARMUP, block, carry[0].position, block_size)
        return jax.lax.scan(one_step, carry, (noise, stage))

    return jax.lax.scan(one_block, (states, adapting), (blocks, stages))


@functools.partial(jax.jit, static_argnames=("block_size", "thin"))
def sample_chunk(kernel, target, tuning, states, keys, blocks, *, block_size: int, thin: int):
    """Run whole blocks of draws, each draw `thin` steps; returns the states, and events and statistics by draw."""

    def one_draw(states, noise):
        states, stats = jax.lax.scan(lambda s, n: _steps(kernel, target, tuning, s, n), states, noise)
        events = jax.vmap(target.constrain)(states.position)
        return states, (events, {name: _over_steps(name, values) for name, values in stats.items()})

    def one_block(states, block):
        noise = _block_noise(kernel, keys, SAMPLING, block, states.position, block_size * thin)
        noise = jax.tree.map(lambda leaf: leaf.reshape((block_size, thin) + leaf.shape[1:]), noise)
        return jax.lax.scan(one_draw, states, noise)

    states, out = jax.lax.scan(one_block, states, blocks)
    return states, jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]), out)


def _over_steps(name: str, values: jax.Array) -> jax.Array:
    """One number for the steps behind a thinned draw: flags are kept if ever set, rates are averaged."""
    if values.dtype == bool:
        return values.any(0)
    return values.mean(0) if name.endswith("_rate") else values[-1]


@functools.partial(jax.jit, static_argnames="dtype")
def random_starts(target: Target, keys: jax.Array, attempt: jax.Array, dtype) -> dict:
    """One random position for every chain."""
    return jax.vmap(lambda key: target.random_position(jax.random.fold_in(key, attempt), dtype))(keys)


@jax.jit
def values_at(target: Target, positions: dict) -> jax.Array:
    return jax.vmap(target.log_density)(positions)


@jax.jit
def gradients_at(target: Target, positions: dict) -> dict:
    return jax.vmap(jax.grad(target.log_density))(positions)
