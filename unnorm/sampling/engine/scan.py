"""The compiled part of sampling: blocks of steps over all chains, with and without adaptation.

Noise keys fold in (chain, absolute block), and a block is a fixed number of steps, so that how a
run is cut into chunks, chain blocks or devices changes no bit of its noise.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as Split

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling import adaptation
from unnorm.sampling.engine.block_noise import Phase, block_noise, of_step
from unnorm.sampling.engine.running_moments import update_moments
from unnorm.supports import Support


class Layout(NamedTuple):
    """What is static about a run of draws; two runs of one layout share a compiled program."""

    block_size: int  # draws whose noise is drawn at once
    thin: int
    keep: str
    track: tuple[tuple[str, Callable], ...] = ()
    chain_block: int = 0  # chains that step together; 0: all of a device's
    devices: int = 1
    draws: int = 0  # of the whole run, where moments must know its halves


def _stepper(kernel: Any, target: Unconstrained, tuning: dict):
    """One step of every chain: (states, info). Built outside the loop, so that what does not change
    stays outside.
    """
    step = jax.vmap(kernel.build(target, tuning).step)
    return lambda states, noise: _make_canonical(target, *step(noise, states))


def _make_canonical(target: Unconstrained, states: Any, info: Any):
    """The states with equivalent positions made one (angles), and the info."""
    if all(type(support).canonical is Support.canonical for support in target.supports.values()):
        return states, info
    return states._replace(position=target.canonical(states.position)), info


def _stats(kernel: Any, states: Any, info: Any) -> dict:
    stats = jax.vmap(kernel.stats)(info)
    log_density = getattr(states, "logdensity", None)
    return stats if log_density is None else stats | {"lp": log_density}


@compiled
def initialise(
    kernel: Any, target: Unconstrained, tuning: dict, positions: dict, keys: jax.Array
) -> Any:
    """The states of all chains at their starts."""
    return jax.vmap(kernel.build(target, tuning).init)(positions, keys)


# -- warm-up ---------------------------------------------------------------------------------------
@compiled
def begin_adaptation(kernel: Any, tuning: dict, positions: dict) -> Any:
    """The state of the kernel's adaptation before warm-up."""
    state = adaptation.strategy(kernel).begin(kernel, tuning, positions)
    return jax.tree.map(lambda leaf: _strong(leaf, tuning), state)


def _strong(leaf: Any, tuning: dict) -> Any:
    """A weakly typed number would become a strong one after the first chunk, and compile warm-up
    twice.
    """
    kind = jnp.result_type(leaf)
    dtype = (
        jnp.result_type(*jax.tree.leaves(tuning)) if jnp.issubdtype(kind, jnp.floating) else kind
    )
    return jnp.asarray(leaf, dtype)


@compiled(static_argnames="chains")
def restarts(kernel: Any, adapting: Any, *, chains: int) -> jax.Array:
    """How often warm-up restarted each chain; none before it starts."""
    started = bool(jax.tree.leaves(adapting))
    return (
        jnp.zeros(chains, jnp.int32)
        if not started
        else adaptation.strategy(kernel).restarts(adapting, chains)
    )


@compiled
def finish_adaptation(kernel: Any, adapting: Any, tuning: dict) -> dict:
    """The tuning after warm-up."""
    return adaptation.strategy(kernel).finish(kernel, adapting, tuning)


@compiled(work="loop", sized_by="states", static_argnames="block_size")
def warm_chunk(
    kernel, target, tuning, states, adapting, keys, blocks, stages, *, block_size: int
) -> tuple[Any, Any]:
    """Run whole blocks of warm-up steps; `stages` holds (stage, event) of each step of each
    block.
    """
    strategy = adaptation.strategy(kernel)

    def one_step(noise, carry, given):
        states, adapting = carry
        index, stage = given

        def one_chain(chain, noise, state):
            return kernel.build(target, strategy.current(kernel, adapting, tuning, chain)).step(
                noise, state
            )

        chain_numbers = jnp.arange(keys.shape[0])
        states, info = _make_canonical(
            target, *jax.vmap(one_chain)(chain_numbers, of_step(noise, index), states)
        )
        stats = _stats(kernel, states, info)
        moved, states = strategy.restart(adapting, states, stage)
        new = strategy.advance(kernel, moved, states.position, info, stage)
        new = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), new, adapting)
        acceptance = stats.get("acceptance_rate", jnp.ones(1))
        infinite = stats.get("inf_proposal", jnp.zeros(1, bool)).any()
        return (states, new), (jnp.mean(acceptance), infinite)

    def one_block(carry, given):
        block, stage = given
        noise = block_noise(kernel, keys, Phase.WARMUP, block, carry[0].position, block_size)
        return jax.lax.scan(
            functools.partial(one_step, noise), carry, (jnp.arange(block_size), stage)
        )

    return jax.lax.scan(one_block, (states, adapting), (blocks, stages))


@compiled(work="loop", sized_by="states", static_argnames="steps")
def warm_whole(kernel, target, tuning, states, key, *, steps: int) -> tuple[Any, dict]:
    """The warm-up of a kernel that brings its own, in one piece."""
    return kernel.warm_up(target, states, key, steps, tuning)


# -- draws -----------------------------------------------------------------------------------------
@compiled(work="loop", sized_by="states", static_argnames="layout")
def sample_chunk(
    kernel, target, tuning, states, moments, keys, blocks, *, layout: Layout
) -> tuple[Any, Any, Any]:
    """Run whole blocks of draws; returns the states, the moments, and what is kept, as (draw,
    chain, ...).
    """

    def over_chains(states, moments, keys, kernel, target, tuning, blocks):
        count = keys.shape[0]
        size = layout.chain_block or count
        if size >= count:
            return _run_blocks(kernel, target, tuning, states, moments, keys, blocks, layout)
        cut = jax.tree.map(
            lambda leaf: leaf.reshape((-1, size) + leaf.shape[1:]), (states, moments, keys)
        )
        states, moments, out = jax.lax.map(
            lambda part: _run_blocks(  # type: ignore[call-arg]
                kernel, target, tuning, *part, blocks, layout
            ),
            cut,
        )
        join = functools.partial(jax.tree.map, lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]))
        out = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape((leaf.shape[1], -1) + leaf.shape[3:]), out
        )
        return join(states), join(moments), out

    given = (states, moments, keys, kernel, target, tuning, blocks)
    if layout.devices == 1:
        return over_chains(*given)
    # Each device runs its own loop: what jit's own sharding makes of it holds collectives, and is
    # slower than one.
    split, same = Split("chains"), Split()
    return jax.shard_map(
        over_chains,
        mesh=mesh(layout.devices),
        in_specs=(split, split, split, same, same, same, same),
        out_specs=(split, split, Split(None, "chains")),
        check_vma=False,
    )(*given)


def mesh(devices: int) -> Mesh:
    """The first devices of this host, over which chains are split."""
    return Mesh(np.array(jax.local_devices()[:devices]), ("chains",))


def _run_blocks(kernel, target, tuning, states, moments, keys, blocks, layout: Layout):
    step, length = _stepper(kernel, target, tuning), layout.block_size

    def one_step(states, noise):
        states, info = step(states, noise)
        return states, _stats(kernel, states, info)

    def one_draw(noise, first, carry, place):
        states, moments = carry
        if layout.thin == 1:
            states, stats = one_step(states, of_step(noise, place))
        else:
            steps = place * layout.thin + jnp.arange(layout.thin)
            states, stats = jax.lax.scan(lambda s, i: one_step(s, of_step(noise, i)), states, steps)
            stats = {name: _over_steps(name, values) for name, values in stats.items()}
        events: dict
        events, tracked = {}, {}
        if layout.keep != "last" or layout.track:
            event = jax.vmap(target.constrain)(states.position)
            tracked = {
                name: jax.vmap(lambda one, f=f: f(*(one[v] for v in target.density.variables)))(
                    event
                )
                for name, f in layout.track
            }
            events = event if layout.keep == "all" else {}
            if layout.keep == "moments":
                moments = update_moments(moments, event, first + place, layout.draws)
        return (states, moments), (events, tracked, stats)

    def one_block(carry, block):
        noise = block_noise(
            kernel, keys, Phase.SAMPLING, block, carry[0].position, length * layout.thin
        )
        draw = functools.partial(one_draw, noise, block * length)
        carry, (events, tracked, stats) = jax.lax.scan(draw, carry, jnp.arange(length))
        if layout.keep != "all":  # one number for the block
            stats = {name: _over_steps(name, values)[None] for name, values in stats.items()}
        return carry, (events, tracked, stats)

    (states, moments), out = jax.lax.scan(one_block, (states, moments), blocks)
    return states, moments, jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]), out)


def _over_steps(name: str, values: jax.Array) -> jax.Array:
    """One number for the steps behind a thinned draw: flags are kept if ever set, rates are
    averaged.
    """
    if values.dtype == bool:
        return values.any(0)
    return values.mean(0) if name.endswith("_rate") else values[-1]
