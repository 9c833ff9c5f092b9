"""Particles annealed along a path, at a schedule that an adaptive run has found."""

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
from unnorm.partition.options import RESAMPLING, RUN, ResamplingOptions, RunCriteria


class Schedule(NamedTuple):
    """Inverse temperatures from above 0 to 1, and the tuning at each."""

    inverse_temperatures: jax.Array  # (T,)
    tunings: Tuning  # of arrays with a leading axis T


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
        at = path.at(inverse_temperature)
        particles, _ = step_particles(backward, at, tuning, key, particles)
        return (particles, work + rise * particles.log_ratio), None

    rises = jnp.diff(schedule.inverse_temperatures, prepend=0.0)
    given = ((*schedule, rises), key_array(key, len(rises)))
    start = particles, jnp.zeros_like(particles.log_target)
    return jax.lax.scan(step, start, given, reverse=True)[0][1]


__all__ = [ "Run", "Schedule", "anneal", "anneal_back",
    "coordinates", "merge", "nonfinite_findings",
    "particles_at", "resample", "sample_particles",
]  # fmt: skip
