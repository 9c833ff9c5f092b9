"""Chains of the density itself from dispersed starts, for bridge sampling and NCE."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import RUN_ONCE, compiled
from unnorm.core.random_keys import key_array, key_stretches, split_keys
from unnorm.partition.annealing.adaptive_run import adapt_step, tuning_of
from unnorm.partition.annealing.chains import Chains
from unnorm.partition.annealing.tempered import AnnealingPath, Particle
from unnorm.partition.annealing.transitions.base import (
    Transitions,
    Tuning,
    evaluations_of,
    step_particles,
)
from unnorm.partition.annealing.transitions.independence_move import bin_edges
from unnorm.partition.annealing.transitions.selection import transitions_for
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.modes.mode_search import positions_at_scales


@compiled
def random_starts(path: AnnealingPath, keys: jax.Array) -> Particle:
    positions = positions_at_scales(path.target, keys, path.proposal.dtype)
    return jax.vmap(path.evaluate)(positions)


@compiled(work="loop", options=RUN_ONCE)
def _run(
    path: AnnealingPath,
    transitions: Transitions,
    particles: Particle,
    keys: jax.Array,
    tuning: Tuning,
    adapt: bool,
) -> tuple[Particle, Tuning, Particle]:
    """As many steps as keys; warm-up and draws share a program."""

    def step(carry, key):
        particles, tuning = carry
        one = jnp.ones((), path.proposal.dtype)
        particles, rates = step_particles(transitions, path.at(one), tuning, key, particles)
        adapted = adapt_step(tuning, rates.mean(), 0.2)
        tuning = jax.tree.map(lambda new, old: jnp.where(adapt, new, old), adapted, tuning)
        return (particles, tuning), particles

    (particles, tuning), history = jax.lax.scan(step, (particles, tuning), keys)
    return particles, tuning, history


@compiled(static_argnames="draws")
def _first_tuning(path: AnnealingPath, key: jax.Array, draws: int = 1000) -> Tuning:
    """The tuning from the proposal: its first component and the margins of its draws."""
    proposal, dtype = path.proposal, path.proposal.dtype
    flat = jax.vmap(path.target.flatten)(proposal.sample(key, draws))
    edges = jnp.zeros((0, 1), dtype)
    factor = jnp.zeros((0, 0), dtype)
    if path.target.dimension:
        edges = bin_edges(flat, jnp.full(draws, 1 / draws, dtype))
        factor = proposal.continuous.factors[0]
    counts = proposal.discrete.counts
    scales = {name: jnp.sqrt(mean + mean**2 / size) for name, (mean, size) in counts.items()}
    return Tuning(jnp.asarray(-1.0, dtype), factor, scales, edges)


@compiled
def _tuning_of_half(path: AnnealingPath, positions: Any, log_step: jax.Array) -> Tuning:
    """The tuning by the last half of a stretch of chains, (steps, chains, ...)."""
    late = jax.tree.map(lambda leaf: jax.lax.collapse(leaf[len(leaf) // 2 :], 0, 2), positions)
    count = len(jax.tree.leaves(late)[0])
    equal = jnp.full(count, 1 / count, path.proposal.dtype)
    return tuning_of(path.target, late, equal, log_step)


@compiled
def _flat_history(target: Any, positions: Any) -> jax.Array:
    return jax.vmap(jax.vmap(target.flatten))(positions)


def run_chains(
    proposal: Proposal,
    key: jax.Array,
    chains: int,
    draws: int,
    clusters: bool = False,
    warmups: tuple[int, ...] = (100, 100, 100),
) -> Chains:
    """Draws of the density; step size and covariance are learned in the warm-up over all chains.

    Args:
        proposal: for the density, whose margins and scales the warm-up starts from.
        key: of the starts and steps.
        chains: their number.
        draws: of each chain.
        clusters: whether Swendsen-Wang transitions are made, where the density has an Ising form.
        warmups: steps, after each of which the covariance is estimated from their last half; one
            more round of the first length adapts the step size alone.
    """
    path = AnnealingPath(proposal.view, proposal)
    transitions = transitions_for(path.target, proposal.couplings if clusters else None)
    start, key = split_keys(key)
    particles = random_starts(path, key_array(start, chains))
    tuning = _first_tuning(path, start)
    for steps in warmups:
        key, one = split_keys(key)
        particles, tuning, history = _run(
            path, transitions, particles, key_array(one, steps), tuning, True
        )
        tuning = _tuning_of_half(path, history.position, tuning.log_step)
    key, one = split_keys(key)
    length = warmups[0]
    particles, tuning, _ = _run(path, transitions, particles, key_array(one, length), tuning, True)
    parts = []
    for keys in key_stretches(key, draws, draws if draws % length else length):
        particles, _, part = _run(path, transitions, particles, keys, tuning, False)
        parts.append(jax.tree.map(np.asarray, part))
    history = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    discrete = path.target.discrete(history.position)
    means = [value.reshape(draws, chains, -1).mean(-1) for value in discrete.values()]
    columns: tuple = (
        _flat_history(path.target, history.position),
        np.stack(means, -1) if means else np.zeros((draws, chains, 0)),
        history.log_target,
        history.log_proposal,
        history.target_gradient,
    )
    by_chain = (np.swapaxes(np.asarray(part, float), 0, 1) for part in columns)
    steps = chains * (sum(warmups) + warmups[0] + draws)
    spent = evaluations_of(transitions, path, steps)
    nonfinite = int(np.sum(particles.nonfinite))
    return Chains(*by_chain, nonfinite, spent)  # type: ignore[call-arg, arg-type]


__all__ = ["run_chains"]
