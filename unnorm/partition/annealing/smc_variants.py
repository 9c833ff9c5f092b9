"""Waste-free and persistent sequential Monte Carlo, in several independent populations.

Waste-free: Dau and Chopin (2022), doi:10.1111/rssb.12475; persistent: Karamanis and Seljak (2024),
arXiv:2407.20722.
"""

import math

import jax
import jax.numpy as jnp
from blackjax.smc import resampling
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import RUN_ONCE, compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.partition.annealing.particles import Run, Schedule, sample_particles
from unnorm.partition.annealing.tempered import AnnealingPath, Particle
from unnorm.partition.annealing.transitions.base import Transitions, step_particles


@compiled(work="loop", options=RUN_ONCE, static_argnames=("count", "populations", "length"))
def waste_free(
    path: AnnealingPath,
    schedule: Schedule,
    key: jax.Array,
    transitions: Transitions,
    count: int,
    populations: int,
    length: int = 10,
) -> tuple[jax.Array, Run]:
    """log Ẑ of each population, and the particles at the end; all states of short chains are the
    next particles.

    At each temperature count / length of the particles are drawn by their weights, and each makes
    length − 1 steps.
    """
    chains = count // length

    def population(key):
        start, key = split_keys(key)
        particles = sample_particles(path, start, chains * length)
        none = jnp.zeros_like(particles.nonfinite[:chains])

        def step(carry, given):
            particles, log_z, before = carry
            (inverse_temperature, tuning), key = given
            logs = (inverse_temperature - before) * particles.log_ratio
            choose, key = split_keys(key)
            chosen = resampling.systematic(choose, jax.nn.softmax(logs), chains)
            first = jax.tree.map(lambda leaf: leaf[chosen], particles)._replace(nonfinite=none)

            def move(particles, key):
                particles, rates = step_particles(
                    transitions, path.at(inverse_temperature), tuning, key, particles
                )
                return particles, (particles, rates.mean())

            last, (rest, rates) = jax.lax.scan(move, first, key_array(key, length - 1))
            particles = jax.tree.map(lambda a, b: jnp.concatenate([a, *b]), first, rest)
            return (
                particles,
                log_z + logsumexp(logs) - math.log(len(logs)),
                inverse_temperature,
            ), (
                rates.mean(),
                last.nonfinite.sum(),
            )

        nonfinite, zero = particles.nonfinite.sum(), jnp.zeros((), path.proposal.dtype)
        given = tuple(schedule), key_array(key, len(schedule.inverse_temperatures))
        (particles, log_z, _), (rates, more) = jax.lax.scan(step, (particles, zero, zero), given)
        return log_z, particles, rates, nonfinite + more.sum()

    return _merge(*jax.vmap(population)(key_array(key, populations)))


@compiled(work="loop", options=RUN_ONCE, static_argnames=("count", "populations"))
def persistent(
    path: AnnealingPath,
    schedule: Schedule,
    key: jax.Array,
    transitions: Transitions,
    count: int,
    populations: int,
) -> tuple[jax.Array, Run]:
    """As `waste_free`, but the particles of all temperatures so far stay, weighted as draws of
    their mixture.

    log Z_t is the log of the mean of q^(1−λ_t) p̃^λ_t over (1/t) Σ_s q^(1−λ_s) p̃^λ_s / Z_s, over
    all particles so far.
    """
    stages = len(schedule.inverse_temperatures)

    def population(key):
        start, key = split_keys(key)
        first = sample_particles(path, start, count)
        seen = jax.tree.map(
            lambda leaf: jnp.zeros((stages + 1, *leaf.shape), leaf.dtype).at[0].set(leaf), first
        )
        ratios = jnp.zeros((stages + 1, count), path.proposal.dtype).at[0].set(first.log_ratio)
        inverse_temperatures = jnp.concatenate(
            [jnp.zeros(1, path.proposal.dtype), schedule.inverse_temperatures]
        )

        def step(carry, given):
            # mixture: log Σ_s q^−λ_s p̃^λ_s / Z_s, over the stages so far
            seen, ratios, mixture, log_zs = carry
            (inverse_temperature, tuning), key, stage = given
            drawn = jnp.arange(stages + 1)[:, None] < stage  # the proposal's first
            logs = jnp.where(
                drawn, inverse_temperature * ratios - mixture + jnp.log(stage), -jnp.inf
            )
            log_z = logsumexp(logs) - jnp.log(stage * count)
            choose, move = split_keys(key)
            chosen = resampling.systematic(choose, jax.nn.softmax(logs.ravel()), count)
            particles = jax.tree.map(lambda leaf: leaf[chosen // count, chosen % count], seen)
            particles = particles._replace(nonfinite=jnp.zeros_like(particles.nonfinite))
            particles, rates = step_particles(
                transitions, path.at(inverse_temperature), tuning, move, particles
            )
            seen = jax.tree.map(lambda all, new: all.at[stage].set(new), seen, particles)
            new, log_zs = particles.log_ratio, log_zs.at[stage].set(log_z)
            upto = jnp.arange(stages + 1)[:, None] <= stage
            of_new = logsumexp(
                jnp.where(upto, inverse_temperatures[:, None] * new - log_zs[:, None], -jnp.inf), 0
            )
            mixture = (
                jnp.logaddexp(mixture, inverse_temperature * ratios - log_z).at[stage].set(of_new)
            )
            return (seen, ratios.at[stage].set(new), mixture, log_zs), (
                rates.mean(),
                particles.nonfinite.sum(),
            )

        given = tuple(schedule), key_array(key, stages), jnp.arange(1, stages + 1)
        carry = seen, ratios, jnp.zeros_like(ratios), jnp.zeros(stages + 1, path.proposal.dtype)
        (seen, _, _, log_zs), (rates, nonfinite) = jax.lax.scan(step, carry, given)
        last = jax.tree.map(lambda leaf: leaf[-1], seen)
        return log_zs[-1], last, rates, first.nonfinite.sum() + nonfinite.sum()

    return _merge(*jax.vmap(population)(key_array(key, populations)))


def _merge(
    log_z: jax.Array, particles: Particle, rates: jax.Array, nonfinite: jax.Array
) -> tuple[jax.Array, Run]:
    """Every population's log Ẑ, and all particles as one run whose lineages are the populations."""
    count = particles.log_target.shape[1]
    flat = jax.tree.map(lambda leaf: jnp.concatenate(list(leaf)), particles)
    logs, lineages = jnp.repeat(log_z, count), jnp.repeat(jnp.arange(len(log_z)), count)
    none = jnp.zeros(0, logs.dtype)
    return log_z, Run(
        flat, logs, lineages, none, none, rates.mean(0), jnp.zeros(()), nonfinite.sum()
    )


def steps_of_populations(
    variant: str, count: int, populations: int, temperatures: int, length: int = 10
) -> int:
    """How many steps of a particle a run makes."""
    each = count // length * (length - 1) if variant == "waste_free" else count
    return populations * (count + each * temperatures)


__all__ = ["persistent", "steps_of_populations", "waste_free"]
