"""Particles that follow a density as one of its parameters moves from value to value."""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.adaptive_run import Population, adaptive_steps, tuning_of
from unnorm.partition.annealing.particles import Run, particles_at, resample
from unnorm.partition.annealing.pilot_run import Pilot
from unnorm.partition.annealing.tempered import AnnealingPath, Particle, log_target
from unnorm.partition.annealing.transitions.base import Transitions, Tuning, step_particles
from unnorm.partition.options import PILOT, PilotOptions


@dataclass(frozen=True)
class SweepOptions:
    """The step from one value of the parameter to the next."""

    values_per_stage: int = 5  # of the run, for each value that the pilot stops at
    min_share: float = 2.0**-20  # of the way to the next value: the pilot goes no shorter steps


SWEEP = SweepOptions()


class ParameterSchedule(NamedTuple):
    """The values at which a run stops, the tuning there, and where log Z is recorded."""

    values: jax.Array  # (T,)
    tunings: Tuning  # of arrays with a leading axis T
    recorded: jax.Array  # (T,)


class ParameterRun(NamedTuple):
    """The lineages' log weights at each value, and the same times the slope of log p̃."""

    weights: jax.Array  # (T, N), minus infinity where a lineage has died out; their mean is Z
    # (T, N), sums of exp(log weight − top) · ∂ log p̃, top the largest of the lineages' logs
    slopes: jax.Array
    last: Run


def at(density: Density, name: str, value: jax.Array | np.ndarray | float) -> Density:
    """The density with this value of a parameter or constant; traceable."""
    return density._overridden({name: value})


def move_path(path: AnnealingPath, name: str, value: jax.Array | float) -> AnnealingPath:
    """The path to the density with another value of the parameter."""
    return path.with_target(Unconstrained(at(path.target.density, name, value)))


# -- the pilot -------------------------------------------------------------------------
def schedule_over(
    pilot: Pilot, name: str, values: np.ndarray, key: jax.Array, options: SweepOptions = SWEEP
) -> tuple[ParameterSchedule, int]:
    """A schedule along the values from the first, where the pilot ended, and its number of stages.

    A stage goes as far towards the next value as the ESS fraction of a pilot's stage allows.
    """
    path, population = pilot.path, pilot.population
    stops, tunings, recorded = [], [], []
    for before, value in itertools.pairwise(values):
        done = 0.0
        while done < 1:
            done = min(1.0, done + _share(path, name, population, (before, value, done), options))
            there = before + done * (value - before)
            key, one = split_keys(key)
            moved = move_path(path, name, there)
            population = _shift(moved, pilot.transitions, population, one, PILOT)
            stops.append(float(there))
            tunings.append(population.tuning)
            recorded.append(done == 1)
    n, starts = options.values_per_stage, [float(values[0]), *stops[:-1]]
    fine = [np.linspace(a, b, n + 1)[1:] for a, b in zip(starts, stops, strict=True)]
    stacked = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), n, 0), *tunings)
    ends = np.arange(len(stops) * n) % n == n - 1
    flags = jnp.asarray(np.repeat(recorded, n) & ends)
    schedule = jnp.asarray(np.concatenate(fine), path.proposal.dtype)
    return ParameterSchedule(schedule, stacked, flags), len(stops)


def _share(
    path: AnnealingPath,
    name: str,
    population: Population,
    way: tuple[float, float, float],
    options: SweepOptions,
) -> float:
    """The share of the way that the next stage goes: all that is left if no part suffices."""
    before, value, done = way
    share = 1 - done
    while share > options.min_share:
        there = move_path(path, name, before + (done + share) * (value - before))
        if float(_ess_fraction(there, population.particles)) >= PILOT.ess_fraction:
            return share
        share /= 2
    return 1 - done


@compiled
def _ess_fraction(path: AnnealingPath, particles: Particle) -> jax.Array:
    """The ESS fraction of the particles' weights at another value."""
    ratios = _log_rises(path, particles)
    return jnp.exp(2 * logsumexp(ratios) - logsumexp(2 * ratios)) / len(ratios)


def _log_rises(path: AnnealingPath, particles: Particle) -> jax.Array:
    """log p̃ there minus log p̃ here; minus infinity where either is not finite."""

    def rise(particle):
        rise = log_target(path.target, particle.position) - particle.log_target
        return jnp.where(jnp.isfinite(rise), rise, -jnp.inf)

    return jax.vmap(rise)(particles)


@compiled(work="loop", static_argnames="options")
def _shift(
    path: AnnealingPath,
    transitions: Transitions,
    population: Population,
    key: jax.Array,
    options: PilotOptions,
) -> Population:
    """The population resampled at another value and moved there."""
    particles, count = population.particles, len(population.particles.log_target)
    weights = jax.nn.softmax(_log_rises(path, particles))
    choose, key = split_keys(key)
    tuning = tuning_of(path.target, particles.position, weights, population.tuning.log_step)
    chosen = resampling.systematic(choose, weights, count)
    positions = jax.tree.map(lambda leaf: leaf[chosen], particles.position)
    one = jnp.ones((), path.proposal.dtype)
    particles, tuning, _ = adaptive_steps(
        path, transitions, one, particles_at(path, positions), key, tuning, options
    )
    return population._replace(particles=particles, tuning=tuning)


# -- the run ---------------------------------------------------------------------------
@compiled(static_argnames="name")
def lineage_weights(
    density: Density, name: str, value: jax.Array, run: Run
) -> tuple[jax.Array, jax.Array]:
    """The lineages' log weights (N,) at a value, and the same times the slope of log p̃ there."""

    def slope(particle):
        def height(moving):
            return log_target(Unconstrained(at(density, name, moving)), particle.position)

        return jax.grad(height)(value)

    slopes = jax.vmap(slope)(run.particles)
    slopes = jnp.where(jnp.isneginf(run.log_weights) | ~jnp.isfinite(slopes), 0.0, slopes)
    top = run.log_weights.max()
    weights, zeros = jnp.exp(run.log_weights - top), jnp.zeros_like(run.log_weights)
    logs = top + jnp.log(zeros.at[run.ancestors].add(weights))
    return logs, zeros.at[run.ancestors].add(weights * slopes) * jnp.exp(top - logs.max())


@compiled(work="loop", static_argnames="name")
def follow(
    path: AnnealingPath,
    name: str,
    transitions: Transitions,
    schedule: ParameterSchedule,
    run: Run,
    key: jax.Array,
) -> ParameterRun:
    """Particles that go on from a run at the first value along the schedule; resampled whenever
    their ESS is low.
    """
    one = jnp.ones((), path.proposal.dtype)

    def step(carry, given):
        run = carry
        (value, tuning, record), key = given
        there = move_path(path, name, value)
        particles = jax.vmap(there.evaluate)(run.particles.position)
        rise = particles.log_target - run.particles.log_target
        log_weights = run.log_weights + jnp.where(jnp.isfinite(rise), rise, -jnp.inf)
        here = run._replace(particles=particles, log_weights=log_weights)
        nothing = jnp.full_like(log_weights, -jnp.inf), jnp.zeros_like(log_weights)
        recorded = jax.lax.cond(
            record,
            lambda: lineage_weights(path.target.density, name, value, here),
            lambda: nothing,
        )
        choose, move = split_keys(key)
        particles, log_weights, ancestors = resample(choose, particles, log_weights, run.ancestors)
        particles, rates = step_particles(transitions, there.at(one), tuning, move, particles)
        here = run._replace(
            particles=particles._replace(nonfinite=jnp.zeros_like(particles.nonfinite)),
            log_weights=log_weights,
            ancestors=ancestors,
            nonfinite=run.nonfinite + particles.nonfinite.sum(),
        )
        return here, (*recorded, rates.mean())

    keys = key_array(key, len(schedule.values))
    last, (weights, slopes, rates) = jax.lax.scan(step, run, (tuple(schedule), keys))
    acceptance = jnp.concatenate([run.acceptance, rates])
    return ParameterRun(weights, slopes, last._replace(acceptance=acceptance))


def summarize(weights: np.ndarray, slopes: np.ndarray) -> dict[str, np.ndarray]:
    """log Z at each value (V,), its covariance (V, V), d log Z and its error, from lineages (V, N).

    Lineages are independent of each other: the spread of their weights, relative to the mean, is
    the error of log Z.
    """
    count = weights.shape[1]
    value = logsumexp(weights, axis=1) - math.log(count)
    relative = np.exp(np.asarray(weights - value[:, None], float))
    scale = np.exp(np.asarray(weights.max(1) - value, float))[:, None]
    weighted = np.asarray(slopes, float) * scale
    slope = weighted.mean(1)
    apart = weighted - slope[:, None] * relative
    return {
        "log_z": np.asarray(value, float),
        "covariance": np.atleast_2d(np.cov(relative)) / count,
        "derivative": slope,
        "derivative_standard_error": apart.std(1, ddof=1) / math.sqrt(count),
    }


__all__ = [
    "ParameterRun", "ParameterSchedule", "at", "follow", "lineage_weights", "schedule_over",
    "summarize",
]  # fmt: skip
