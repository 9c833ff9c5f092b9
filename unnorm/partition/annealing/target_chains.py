"""Chains of the density itself, from starts apart: what a local route to log Z rests on."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.independence_move import margins
from unnorm.partition.annealing.particles import ACCEPTANCE, widths_of
from unnorm.partition.annealing.transitions import Moves, Walker, Widths, looked, moved
from unnorm.partition.proposals.mixture import Base, draw, parts
from unnorm.partition.proposals.mode_search import FAR_OUT

WARMUPS = (
    100,
    100,
    100,
)  # moves, after each of which the covariance is learned anew from the last half of them
DRAWN = 1000  # draws of the base, whose margins jumps start with


class Chains(NamedTuple):
    """Draws and what was looked at on the way."""

    draws: np.ndarray  # (chains, draws, D), continuous coordinates
    means: np.ndarray  # (chains, draws, discrete variables), of each variable's entries
    log_target: np.ndarray  # (chains, draws)
    log_base: np.ndarray
    pulls: np.ndarray  # (chains, draws, D)
    bad: int


@jax.jit
def _scattered(density: Density, base: Base, keys: jax.Array) -> Walker:
    def one(key, far):
        continuous, discrete = parts(density, Unconstrained(density).random_position(key, base.dtype))
        return looked(density, base, jax.tree.map(lambda leaf: far * leaf, continuous) | discrete)

    far = jnp.resize(jnp.asarray(FAR_OUT, base.dtype), len(keys))
    return jax.vmap(one)(keys, far)


@functools.partial(jax.jit, static_argnames=("moves", "steps", "adapt"))
def _walked(
    density: Density,
    base: Base,
    moves: Moves,
    walkers: Walker,
    key,
    widths: Widths,
    steps: int,
    adapt: bool,
):
    count = len(walkers.log_target)

    def step(carry, key):
        walkers, widths = carry
        keys = jax.random.split(key, count)
        walkers, accepted = jax.vmap(
            lambda walker, key: moved(density, base, moves, jnp.ones((), base.dtype), walker, key, widths)
        )(walkers, keys)  # fmt: skip
        if adapt:
            log_step = jnp.clip(widths.log_step + 0.2 * (accepted.mean() - ACCEPTANCE), -12.0, 1.0)
            widths = widths._replace(log_step=log_step)
        return (walkers, widths), walkers

    (walkers, widths), path = jax.lax.scan(step, (walkers, widths), jax.random.split(key, steps))
    return walkers, widths, path


def chains_of(
    density: Density, base: Base, moves: Moves, key: jax.Array, chains: int, draws: int
) -> Chains:
    """Draws by HMC (and Gibbs, and integer walks), steps and covariance learned in the warm-up over
    all chains.
    """
    start, key = jax.random.split(key)
    walkers = _scattered(density, base, jax.random.split(start, chains))
    log_step = jnp.asarray(-1.0, base.dtype)
    spread = jax.vmap(lambda key: ravel_pytree(parts(density, draw(density, base, key))[0])[0])
    ends = margins(spread(jax.random.split(start, DRAWN)), jnp.full(DRAWN, 1 / DRAWN, base.dtype))
    strides = {name: jnp.sqrt(mean + mean**2 / size) for name, (mean, size) in base.counts.items()}
    widths = Widths(log_step, base.factors[0], strides, ends)
    for steps in WARMUPS:
        key, one = jax.random.split(key)
        walkers, widths, path = _walked(density, base, moves, walkers, one, widths, steps, True)
        late = jax.tree.map(
            lambda leaf, steps=steps: jax.lax.collapse(leaf[steps // 2 :], 0, 2), path
        )
        equal = jnp.full(len(late.log_target), 1 / len(late.log_target), base.dtype)
        widths = widths_of(density, late, equal, widths.log_step)
    key, one = jax.random.split(key)
    walkers, widths, _ = _walked(density, base, moves, walkers, one, widths, WARMUPS[0], True)
    walkers, _, path = _walked(density, base, moves, walkers, key, widths, draws, False)
    continuous, discrete = parts(density, path.position)
    none = np.zeros((draws, chains, 0))
    flat = (
        jax.vmap(jax.vmap(lambda position: ravel_pytree(position)[0]))(continuous)
        if continuous
        else none
    )
    means = [value.reshape(draws, chains, -1).mean(-1) for value in discrete.values()]
    means = np.stack(means, -1) if means else none
    told = flat, means, path.log_target, path.log_base, path.pull
    return Chains(
        *(np.swapaxes(np.asarray(part, float), 0, 1) for part in told), int(np.sum(walkers.bad))
    )


def steps_of(chains: int, draws: int) -> int:
    """How many moves `chains_of` makes."""
    return chains * (sum(WARMUPS) + WARMUPS[0] + draws)


__all__ = ["Chains", "chains_of", "steps_of"]
