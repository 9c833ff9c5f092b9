"""Particles along an annealing path: an adaptive run finds the schedule, other runs use it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import resampling
from jax.scipy.special import logsumexp

from unnorm.core.compilation.policy import RUN_ONCE, compiled
from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.core.progress import report
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.partition.annealing.stein_checks import stein_level
from unnorm.partition.annealing.tempered import AnnealingPath, Particle
from unnorm.partition.annealing.transitions.base import (
    Transitions,
    Tuning,
    reverse_all,
    step_particles,
)
from unnorm.partition.annealing.transitions.independence_move import bin_edges
from unnorm.partition.options import (
    MIXTURE,
    PILOT,
    RESAMPLING,
    RUN,
    PilotOptions,
    ResamplingOptions,
    RunCriteria,
)
from unnorm.partition.proposals.base import count_names


class Schedule(NamedTuple):
    """Inverse temperatures from above 0 to 1, and the tuning at each."""

    inverse_temperatures: jax.Array  # (T,)
    tunings: Tuning  # of arrays with a leading axis T


class Population(NamedTuple):
    """The particles of an adaptive run at one temperature."""

    particles: Particle
    inverse_temperature: jax.Array
    tuning: Tuning
    acceptance: jax.Array  # of the last transitions


class Run(NamedTuple):
    """Particles after annealing from the proposal to the density."""

    particles: Particle
    log_weights: jax.Array  # (N,): the mean of their exponentials is Z
    ancestors: jax.Array  # (N,): the first particle that each descends from
    means: jax.Array  # (T + 1,): of log p̃ − log q at each temperature, from λ = 0
    variances: jax.Array
    acceptance: jax.Array  # (T,)
    first_step: jax.Array  # log of the mean weight at the first temperature
    nonfinite: jax.Array  # evaluations of log p̃ that were NaN or +infinity, of all lineages

    def lineage_log_weights(self) -> np.ndarray:
        """Log of the weight of all descendants of each first particle; their mean is that of all.

        The lineages are independent: the spread of their weights is the genealogical standard error
        (Chan and Lai, 2013, doi:10.1214/13-AOS1172; Lee and Whiteley, 2018,
        doi:10.1093/biomet/asy028).
        """
        logs = np.asarray(self.log_weights, float)
        top = logs.max()
        if not np.isfinite(top):
            return logs
        sums = np.bincount(np.asarray(self.ancestors), np.exp(logs - top), len(logs))
        with np.errstate(divide="ignore"):
            return top + np.log(sums)

    def stein_level(self, view: Unconstrained) -> float:
        """The level at which the last particles reject Stein's identities."""
        logs = np.asarray(self.log_weights, float)
        weights = np.exp(logs - logs.max())
        return stein_level(
            coordinates(view, self.particles),
            np.asarray(self.particles.target_gradient, float),
            weights / weights.sum(),
            np.asarray(self.ancestors),
        )


def merge(runs: Sequence[Run]) -> Run:
    """The particles of independent runs as one run."""
    offsets = np.cumsum([0, *(len(run.ancestors) for run in runs[:-1])])
    particles = [run.particles for run in runs]
    return runs[0]._replace(
        particles=jax.tree.map(lambda *leaves: np.concatenate(leaves), *particles),
        log_weights=np.concatenate([run.log_weights for run in runs]),  # type: ignore[arg-type]
        ancestors=np.concatenate(  # type: ignore[arg-type]
            [r.ancestors + at for r, at in zip(runs, offsets, strict=True)]
        ),
        acceptance=np.min([run.acceptance for run in runs], axis=0),
        nonfinite=sum(run.nonfinite for run in runs),  # type: ignore[arg-type]
    )


# -- particles -------------------------------------------------------------------------
def coordinates(view: Unconstrained, particles: Particle) -> np.ndarray:
    """The continuous coordinates (N, D) of particles."""
    return np.asarray(_flat(view, particles.position), float)


@compiled
def _flat(view: Unconstrained, positions: Position) -> jax.Array:
    return jax.vmap(view.flatten)(positions)


@compiled(static_argnames="count")
def sample_particles(path: AnnealingPath, key: jax.Array, count: int) -> Particle:
    """Particles drawn from the proposal."""
    return jax.vmap(path.evaluate)(path.proposal.sample(key, count))


@compiled
def particles_at(path: AnnealingPath, positions: Position) -> Particle:
    """Particles at given positions."""
    return jax.vmap(path.evaluate)(positions)


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


def resample(
    key: jax.Array,
    particles: Particle,
    log_weights: jax.Array,
    ancestors: jax.Array,
    options: ResamplingOptions = RESAMPLING,
) -> tuple[Particle, jax.Array, jax.Array]:
    """Particles, log weights and ancestors, resampled where the ESS is low."""
    count = len(log_weights)
    weights = jax.nn.softmax(log_weights)
    uneven = 1 / jnp.sum(weights**2) < options.min_ess_fraction * count
    chosen = jnp.where(uneven, resampling.systematic(key, weights, count), jnp.arange(count))
    level = logsumexp(log_weights) - math.log(count)
    particles = jax.tree.map(lambda leaf: leaf[chosen], particles)
    return particles, jnp.where(uneven, level, log_weights), ancestors[chosen]


def nonfinite_findings(
    name: str, nonfinite: int, evaluations: int, criteria: RunCriteria = RUN
) -> list[Finding]:
    """A warning if evaluations of log p̃ were NaN or +infinity."""
    if not nonfinite:
        return []
    what = (
        f"the log-density of {name} was NaN or +infinity {nonfinite:,} times in {evaluations:,} "
        "evaluations"
    )
    many = nonfinite > criteria.max_nonfinite_fraction * evaluations
    severity = {} if many else {"severity": WARNING}
    advice = "correct the function where it overflows or leaves its domain"
    return [Finding(what, advice, **severity, code=FindingCode.NOT_FINITE)]


# -- the adaptive run ------------------------------------------------------------------
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


# -- runs along the schedule -----------------------------------------------------------
@compiled(work="loop", options=RUN_ONCE, static_argnames=("count", "resampled"))
def anneal(
    path: AnnealingPath,
    schedule: Schedule,
    key: jax.Array,
    transitions: Transitions,
    count: int,
    resampled: bool = False,
) -> Run:
    """Particles from the proposal to the density; with `resampled`, whenever their ESS is low."""
    start, key = split_keys(key)
    particles = sample_particles(path, start, count)

    def step(carry, given):
        particles, log_weights, ancestors, before = carry
        (inverse_temperature, tuning), key = given
        ratios = particles.log_ratio
        moments = _moments(ratios, log_weights)
        log_weights = log_weights + (inverse_temperature - before) * ratios
        choose, move = split_keys(key)
        if resampled:
            particles, log_weights, ancestors = resample(choose, particles, log_weights, ancestors)
        particles, rates = step_particles(
            transitions, path.at(inverse_temperature), tuning, move, particles
        )
        seen = (*moments, rates.mean(), particles.nonfinite.sum())
        particles = particles._replace(nonfinite=none)
        return (particles, log_weights, ancestors, inverse_temperature), seen

    dtype, none = path.proposal.dtype, jnp.zeros_like(particles.nonfinite)
    nonfinite = particles.nonfinite.sum()
    first = particles._replace(nonfinite=none)
    carry = first, jnp.zeros(count, dtype), jnp.arange(count), jnp.zeros((), dtype)
    keys = key_array(key, len(schedule.inverse_temperatures))
    carry, (*moments, rates, more) = jax.lax.scan(step, carry, (tuple(schedule), keys))
    particles, log_weights, ancestors, _ = carry
    last = _moments(particles.log_ratio, log_weights)
    means, variances = (jnp.append(a, end) for a, end in zip(moments, last, strict=True))
    first_step = logsumexp(schedule.inverse_temperatures[0] * first.log_ratio) - math.log(count)
    return Run(
        particles, log_weights, ancestors, means, variances, rates, first_step,
        nonfinite + more.sum(),
    )  # fmt: skip


def _moments(ratios: jax.Array, log_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights = jax.nn.softmax(log_weights)
    mean = weights @ ratios
    return mean, weights @ (ratios - mean) ** 2


@compiled(work="loop", options=RUN_ONCE)
def anneal_back(
    path: AnnealingPath,
    schedule: Schedule,
    particles: Particle,
    key: jax.Array,
    transitions: Transitions,
) -> jax.Array:
    """Log weights of particles annealed from the density back to the proposal; the mean of
    exp(−log weight) is 1/Z.
    """
    backward = reverse_all(transitions)

    def step(carry, given):
        particles, work = carry
        (inverse_temperature, tuning, rise), key = given
        particles, _ = step_particles(
            backward, path.at(inverse_temperature), tuning, key, particles
        )
        return (particles, work + rise * particles.log_ratio), None

    rises = jnp.diff(schedule.inverse_temperatures, prepend=0.0)
    given = ((*schedule, rises), key_array(key, len(rises)))
    start = particles, jnp.zeros_like(particles.log_target)
    (_, work), _ = jax.lax.scan(step, start, given, reverse=True)
    return work


__all__ = [
    "Population", "Run", "Schedule", "adapt_step", "adaptive_steps", "anneal", "anneal_back",
    "coordinates", "merge", "next_stage", "nonfinite_findings",
    "particles_at", "resample", "run_adaptive", "sample_particles", "schedule_along",
    "tuning_of",
]  # fmt: skip
