"""Short runs of many chains of any kernel: contrastive divergence, simulation, annealing.

`run_chains` takes any object that keeps the Kernel contract and is traceable, so that a verb can
put it inside its own `jit` and loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.sampling.base import Kernel, noise_of


class ChainRun(NamedTuple):
    """Where chains came to, and how their proposals fared."""

    positions: Position  # (chains, ...)
    acceptance_rate: jax.Array  # mean over chains and steps; NaN counts as a rejection
    nan_rate: jax.Array  # share of the proposals whose log-density was NaN


class Rounds(NamedTuple):
    """Rounds of a run at fixed parameters."""

    positions: Position  # (chains, ...), after the last round
    tuning: dict[str, Any]
    events: dict[str, jax.Array]  # (rounds, chains, ...), at the end of each round
    acceptance_rate: jax.Array
    nan_rate: jax.Array


def run_chains(
    kernel: Kernel,
    target: Unconstrained,
    positions: Position,
    key: jax.Array,
    steps: int,
    tuning: dict[str, Any],
    rows: dict[str, jax.Array] | None = None,
) -> ChainRun:
    """Move every chain by some steps of a kernel at fixed tuning; traceable.

    Args:
        kernel: prepared for the target (`kernel.prepare`).
        target: no gradient is taken through it.
        positions: (chains, ...) by variable.
        key: of the whole run.
        steps: per chain, at least 1; static.
        tuning: as `kernel.initial_tuning` gives it.
        rows: the covariates of every chain, (chains, ...), where the density has any.
    """
    target = jax.lax.stop_gradient(target)

    def one_chain(position, key, row):
        algorithm = kernel.build(target.at_row(row), tuning)

        def step(state, noise):
            state, info = algorithm.step(noise, state)
            stats = kernel.stats(info)
            rate = jnp.nan_to_num(stats.get("acceptance_rate", jnp.ones(())))
            return state, (rate, jnp.asarray(stats.get("nan_proposal", False), rate.dtype))

        key, first = split_keys(key)
        noise = noise_of(kernel, key, position, steps)
        state, rates = jax.lax.scan(
            step, algorithm.init(position, first), jax.tree.map(lambda leaf: leaf[:-1], noise)
        )
        # The last step stands apart, so that parts of its state which nobody uses, such as a
        # gradient, are not computed.
        state, last = step(state, jax.tree.map(lambda leaf: leaf[-1], noise))
        rates = jax.tree.map(lambda before, one: (before.sum() + one) / steps, rates, last)
        return state.position, *rates

    count = len(next(iter(positions.values())))
    positions, acceptance, nan = jax.vmap(one_chain)(positions, key_array(key, count), rows)
    return ChainRun(positions, acceptance.mean(), nan.mean())


def adapt_step_size(
    kernel: Kernel,
    tuning: dict[str, Any],
    acceptance_rate: jax.Array,
    gain: jax.Array,
    positions: Position,
) -> dict[str, Any]:
    """One Robbins-Monro update of the log step size, unless the user gave the step size."""
    if kernel.adapts is None or getattr(kernel, "step_size", 0.0) is not None:
        return tuning
    size = sum(leaf[0].size for leaf in jax.tree.leaves(positions))
    excess = acceptance_rate - kernel.target_acceptance(size)
    return tuning | {"step_size": tuning["step_size"] * jnp.exp(gain * excess)}


@compiled(work="loop", static_argnames=("rounds", "steps", "observe"))
def run_rounds(  # noqa: PLR0913 - what a run of chains is
    kernel: Kernel,
    target: Unconstrained,
    tuning: dict[str, Any],
    positions: Position,
    key: jax.Array,
    gain: float,
    rows: dict[str, jax.Array] | None = None,
    *,
    rounds: int,
    steps: int,
    observe: Callable[[Unconstrained, Position], dict[str, jax.Array]] = Unconstrained.events_at,
) -> Rounds:
    """Run chains for some rounds of some steps each; the step size adapts with gain / √round.

    `observe` gives what is kept of each round: the events.
    """

    def one(carry, given):
        positions, tuning = carry
        key, number = given
        run = run_chains(kernel, target, positions, key, steps, tuning, rows)
        tuning = adapt_step_size(
            kernel, tuning, run.acceptance_rate, gain * (1.0 + number) ** -0.5, run.positions
        )
        events = observe(target, run.positions)
        return (run.positions, tuning), (events, run.acceptance_rate, run.nan_rate)

    (positions, tuning), (events, rates, nan) = jax.lax.scan(
        one, (positions, tuning), (key_array(key, rounds), jnp.arange(rounds))
    )
    return Rounds(positions, tuning, events, rates.mean(), nan.mean())


__all__ = ["ChainRun", "Rounds", "adapt_step_size", "run_chains", "run_rounds"]
