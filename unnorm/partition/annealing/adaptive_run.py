"""The adaptive run of particles, which finds the inverse temperatures and the tuning at each."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.core.progress import report
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.partition.annealing.particles import Schedule, sample_particles
from unnorm.partition.annealing.tempered import AnnealingPath, Particle
from unnorm.partition.annealing.transitions.base import Transitions, Tuning, step_particles
from unnorm.partition.annealing.transitions.independence_move import bin_edges
from unnorm.partition.options import MIXTURE, PILOT, PilotOptions
from unnorm.partition.proposals.base import count_names


class Population(NamedTuple):
    """The particles of an adaptive run at one temperature."""

    particles: Particle
    inverse_temperature: jax.Array
    tuning: Tuning
    acceptance: jax.Array  # of the last transitions


@compiled
def tuning_of(
    view: Unconstrained, positions: Position, weights: jax.Array, log_step: jax.Array
) -> Tuning:
    """The tuning by weighted positions; the covariance is shrunk to its diagonal a little, because
    few of them may leave it singular.
    """
    scales = {
        name: jnp.sqrt(jnp.tensordot(weights, (value - jnp.tensordot(weights, value, 1)) ** 2, 1))
        for name, value in positions.items()
        if name in count_names(view.supports)
    }
    flat = jax.vmap(view.flatten)(positions)
    if not flat.shape[1]:
        none = jnp.ones(0, weights.dtype)
        return Tuning(log_step, none, scales, none.reshape(0, 1))
    edges = bin_edges(flat, weights)
    apart = flat - weights @ flat
    variances = weights @ apart**2 + 1e-20
    if flat.shape[1] > MIXTURE.max_dense_dimension:
        return Tuning(log_step, jnp.sqrt(variances), scales, edges)
    covariance = 0.95 * (apart.T * weights) @ apart + 0.05 * jnp.diag(variances)
    return Tuning(log_step, jnp.linalg.cholesky(covariance), scales, edges)


def adapt_step(tuning: Tuning, acceptance: jax.Array, gain: float) -> Tuning:
    """The tuning with a step size nearer to the target acceptance rate."""
    rise = gain * (acceptance - PILOT.target_acceptance)
    return tuning._replace(log_step=jnp.clip(tuning.log_step + rise, -12.0, 1.0))


@compiled(work="loop", static_argnames="options")
def next_stage(
    path: AnnealingPath,
    population: Population,
    key: jax.Array,
    transitions: Transitions,
    options: PilotOptions,
) -> Population:
    """The population at the next temperature, where the weights have the target ESS fraction."""
    ratios = population.particles.log_ratio
    count = len(ratios)
    wanted = options.ess_fraction * jnp.sum(jnp.isfinite(population.particles.log_target))

    def enough(rise):
        return jnp.exp(2 * logsumexp(rise * ratios) - logsumexp(2 * rise * ratios)) >= wanted

    def bisect(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        return jnp.where(enough(middle), middle, low), jnp.where(enough(middle), high, middle)

    left = 1 - population.inverse_temperature
    bounds = jnp.zeros_like(left), left
    low, _ = jax.lax.fori_loop(0, options.bisections, bisect, bounds)
    rise = jnp.where(enough(left), left, jnp.maximum(low, 1e-12))
    reached = jnp.where(enough(left), 1.0, population.inverse_temperature + rise)
    weights = jax.nn.softmax(rise * ratios)
    choose, move = split_keys(key)
    positions = population.particles.position
    tuning = tuning_of(path.target, positions, weights, population.tuning.log_step)
    chosen = resampling.systematic(choose, weights, count)
    particles = jax.tree.map(lambda leaf: leaf[chosen], population.particles)
    particles, tuning, accepted = adaptive_steps(
        path, transitions, reached, particles, move, tuning, options
    )
    dtype = population.inverse_temperature.dtype
    return Population(particles, reached.astype(dtype), tuning, accepted[-1])


def adaptive_steps(
    path: AnnealingPath,
    transitions: Transitions,
    inverse_temperature: jax.Array,
    particles: Particle,
    key: jax.Array,
    tuning: Tuning,
    options: PilotOptions,
) -> tuple[Particle, Tuning, jax.Array]:
    """A few transitions of all particles, the step size adapted after each; and acceptance
    rates.
    """
    tempered = path.at(inverse_temperature)

    def move(carry, key):
        particles, tuning = carry
        particles, rates = step_particles(transitions, tempered, tuning, key, particles)
        rate = rates.mean()
        return (particles, adapt_step(tuning, rate, options.step_size_gain)), rate

    keys = key_array(key, options.repeats)
    (particles, tuning), rates = jax.lax.scan(move, (particles, tuning), keys)
    return particles, tuning, rates


def run_adaptive(
    path: AnnealingPath,
    transitions: Transitions,
    key: jax.Array,
    count: int,
    options: PilotOptions = PILOT,
) -> tuple[list[Population], Population, int]:
    """The stages of an adaptive run, of equal divergence (without their particles), its last
    population, and its rounds.

    A proposal close to the density leaves few stages to learn step sizes in: the last is then
    repeated.
    """
    start, key = split_keys(key)
    first = sample_particles(path, start, count)
    dtype, log_step = path.proposal.dtype, path.proposal.log_step
    if log_step is None:
        log_step = jnp.asarray(-0.25 * math.log(max(path.target.dimension, 1)), dtype)
    weights, zero = jnp.full(count, 1 / count, dtype), jnp.zeros((), dtype)
    tuning = tuning_of(path.target, first.position, weights, log_step)
    stages: list
    population, stages, rounds = Population(first, zero, tuning, zero), [], 0

    def low_acceptance():
        low = path.target.dimension and float(population.acceptance) < options.min_final_acceptance
        return low and rounds < len(stages) + options.max_final_repeats

    while True:
        arrived = stages and float(population.inverse_temperature) >= 1
        if (arrived or len(stages) >= options.max_stages) and not low_acceptance():
            return stages, population, rounds
        key, one = split_keys(key)
        population = next_stage(path, population, one, transitions, options)
        rounds += 1
        stage = population._replace(particles=None)
        if arrived or len(stages) >= options.max_stages:
            stages[-1] = stage
        else:
            stages.append(stage)
            reached = float(population.inverse_temperature)
            report(
                0,
                lambda reached=reached: f"pilot at {reached:.1%} of the path",  # type: ignore[misc]
            )


def schedule_along(stages: list[Population], temperatures: int) -> Schedule:
    """So many temperatures evenly along the stages, whatever their number: runs are then compiled
    once.
    """
    along = len(stages) * np.arange(1, temperatures + 1) / temperatures
    reached = [0.0, *(float(stage.inverse_temperature) for stage in stages)]
    inverse_temperatures = np.interp(along, np.arange(len(stages) + 1), reached)
    at = np.ceil(along - 1e-9).astype(int) - 1
    tunings = [stage.tuning for stage in stages]
    dtype = stages[0].inverse_temperature.dtype
    return Schedule(
        jnp.asarray(inverse_temperatures, dtype),
        jax.tree.map(lambda *leaves: jnp.stack(leaves)[at], *tunings),
    )
