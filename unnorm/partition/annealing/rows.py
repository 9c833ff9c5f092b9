"""Annealed importance sampling of many rows at once: a density with covariates has a Z for each.

Every row has a proposal, a schedule and trajectories of its own; all are one program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.adaptive_run import Population, next_stage, tuning_of
from unnorm.partition.annealing.particles import Schedule, anneal, sample_particles
from unnorm.partition.annealing.tempered import AnnealingPath
from unnorm.partition.annealing.transitions.hmc import HMC
from unnorm.partition.options import MIXTURE, PILOT, ROWS, MixtureOptions, PilotOptions, RowOptions
from unnorm.partition.proposals.base import IndependentStates, Proposal
from unnorm.partition.proposals.mixture import StudentMixture

TRANSITIONS = (HMC(),)


class RowRuns(NamedTuple):
    """What the trajectories of every row leave, arrays with a leading axis of rows."""

    log_weights: jax.Array  # (R, N)
    points: jax.Array  # (R, N, D)
    gradients: jax.Array  # (R, N, D), of log p̃ there
    acceptance: jax.Array  # (R,), the lowest of a run
    nonfinite: jax.Array  # (R,)
    reached: jax.Array  # (R,), the last inverse temperature of the pilot
    lone_mass: jax.Array  # (R,), the share of the mass at modes that one start alone reached


@compiled(static_argnames=("chains", "temperatures", "pilot", "options"))
def anneal_rows(
    view: Unconstrained, rows: dict[str, jax.Array], given: Any, key: jax.Array, chains: int,
    temperatures: int, pilot: int, options: RowOptions = ROWS,
) -> RowRuns:  # fmt: skip
    """Trajectories to the density of every row from a mixture at its modes, or from `given`.

    JAX's own optimization takes minutes to compile it, to save a second or two of each run.

    Args:
        view: of a density with covariates, all variables continuous.
        rows: the covariates by name, (R, ...).
        given: the continuous factor of a proposal for all rows, or None.
        key: of all rows.
        chains: trajectories of each row.
        temperatures: of every trajectory.
        pilot: particles of each row's pilot.
        options: see `RowOptions`.
    """

    def one(row_and_key):
        row, key = row_and_key
        modes_key, pilot_key, run_key = split_keys(key, 3)
        here = view.at_row(row)
        continuous, lone_mass = given, jnp.zeros(())
        if given is None:
            continuous, lone_mass = mixture_at_modes(here, modes_key, options)
        dtype = jnp.result_type(*jax.tree.leaves(row))
        proposal = Proposal(here, continuous, IndependentStates({}, {}), dtype)
        path = AnnealingPath(here, proposal)
        schedule, reached = schedule_of_row(path, pilot_key, pilot, temperatures, options)
        run = anneal(path, schedule, run_key, TRANSITIONS, chains)
        points = jax.vmap(here.flatten)(run.particles.position)
        return RowRuns(
            run.log_weights, points, run.particles.target_gradient, run.acceptance.min(),
            run.nonfinite, reached, lone_mass,
        )  # fmt: skip

    count = len(next(iter(rows.values())))
    batch = max(1, options.particles // chains)
    return jax.lax.map(one, (rows, key_array(key, count)), batch_size=batch)


def schedule_of_row(
    path: AnnealingPath, key: jax.Array, count: int, temperatures: int, options: RowOptions,
    pilot: PilotOptions = PILOT,
) -> tuple[Schedule, jax.Array]:  # fmt: skip
    """Temperatures of equal divergence with their tunings, by an adaptive run of a fixed number of
    stages; and the last temperature that it reached.
    """
    start, key = split_keys(key)
    first = sample_particles(path, start, count)
    dtype = path.proposal.dtype
    log_step = jnp.asarray(-0.25, dtype) * jnp.log(jnp.asarray(path.target.dimension, dtype))
    weights, zero = jnp.full(count, 1 / count, dtype), jnp.zeros((), dtype)
    tuning = tuning_of(path.target, first.position, weights, log_step)

    def step(population, key):
        population = next_stage(path, population, key, TRANSITIONS, pilot)
        return population, population._replace(particles=None)

    keys = key_array(key, options.stages)
    _, stages = jax.lax.scan(step, Population(first, zero, tuning, zero), keys)
    reached = stages.inverse_temperature
    length = jnp.sum(reached < 1) + 1  # stages to the end
    along = length * jnp.arange(1, temperatures + 1, dtype=dtype) / temperatures
    line = jnp.concatenate([zero[None], reached])
    inverse_temperatures = jnp.interp(along, jnp.arange(len(line)), line)
    at = jnp.clip(jnp.ceil(along - 1e-4).astype(int) - 1, 0, options.stages - 1)
    # the stages after the last one go on adapting its step size
    at = jnp.where(at == length - 1, options.stages - 1, at)
    tunings = jax.tree.map(lambda leaf: leaf[at], stages.tuning)
    return Schedule(inverse_temperatures.at[-1].set(reached[-1]), tunings), reached[-1]


def mixture_at_modes(
    view: Unconstrained, key: jax.Array, options: RowOptions, mixture: MixtureOptions = MIXTURE
) -> tuple[StudentMixture, jax.Array]:
    """Student's t at the ends of the searches, by Laplace's mass and equally, and a wide one; and
    the share of the mass at modes that one search alone found.

    That share estimates the mass that no search found, as the species seen once estimate those
    never seen (Good 1953, doi:10.1093/biomet/40.3-4.237).
    """
    size = view.dimension

    def log_density(flat):
        return view.log_density(view.split(flat))

    dtype = jnp.result_type(float)
    scales = jnp.geomspace(1, options.widest_start, options.starts, dtype=dtype)
    starts = (scales[:, None] * jax.random.normal(key, (options.starts, size), dtype)).at[0].set(0)
    places, values, vectors = jax.vmap(lambda start: climb(log_density, start, options))(starts)
    masses = jax.vmap(log_density)(places) - 0.5 * jnp.sum(jnp.log(values), -1)
    masses = jax.nn.softmax(jnp.where(jnp.isfinite(masses), masses, -jnp.inf))
    lone_mass = _lone_mass(places, values, vectors, masses)
    shares = 0.5 * masses + 0.5 / options.starts
    covariances = jnp.einsum("kij,kj,klj->kil", vectors, 1 / values, vectors)
    centre = masses @ places
    apart = places - centre
    whole = jnp.einsum("k,kij->ij", masses, covariances) + jnp.diag(masses @ apart**2)
    wide, axes = jnp.linalg.eigh(mixture.wide_scale**-2 * jnp.linalg.inv(whole))
    values = jnp.concatenate([values, wide[None]])
    vectors = jnp.concatenate([vectors, axes[None]])
    freedoms = [*[mixture.degrees_of_freedom] * options.starts, mixture.wide_degrees_of_freedom]
    found = StudentMixture(
        jnp.log(jnp.append((1 - mixture.wide_share) * shares, mixture.wide_share)),
        jnp.concatenate([places, centre[None]]),
        vectors / jnp.sqrt(values)[:, None],
        jnp.sqrt(values)[:, :, None] * vectors.swapaxes(1, 2),
        -0.5 * jnp.sum(jnp.log(values), -1),
        jnp.asarray(freedoms, dtype),
    )
    return found, lone_mass


def _lone_mass(
    places: jax.Array, values: jax.Array, vectors: jax.Array, masses: jax.Array
) -> jax.Array:
    """The share of the mass, each mode counted once, at places that have no other beside them."""
    apart = places[:, None] - places
    distances = jnp.sum(values[:, None] * (apart @ vectors) ** 2, -1)
    beside = jnp.sum((distances < 1) | (distances.T < 1), -1)  # with itself
    once = masses / beside
    return jnp.sum(jnp.where(beside == 1, once, 0)) / jnp.sum(once)


def climb(
    log_density: Any, start: jax.Array, options: RowOptions
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Newton's method with a trust radius to a mode: the place, and eigenvalues and vectors of the
    precision there, made positive.
    """
    slope, curvature = jax.grad(log_density), jax.hessian(log_density)

    def precision(flat):
        values, vectors = jnp.linalg.eigh(-jnp.nan_to_num(curvature(flat)))
        return jnp.maximum(jnp.abs(values), options.min_precision), vectors

    def step(carry, _):
        flat, height, radius = carry
        values, vectors = precision(flat)
        move = vectors @ (vectors.T @ jnp.nan_to_num(slope(flat)) / values)
        move = move * jnp.minimum(1.0, radius / (jnp.linalg.norm(move) + 1e-12))
        there = log_density(flat + move)
        better = there > height
        radius = jnp.where(better, 2.0, 0.25) * radius
        return (
            jnp.where(better, flat + move, flat), jnp.where(better, there, height), radius,
        ), None  # fmt: skip

    first = start, log_density(start), jnp.asarray(options.radius, start.dtype)
    (flat, _, _), _ = jax.lax.scan(step, first, length=options.newton_steps)
    return flat, *precision(flat)


__all__ = ["RowRuns", "anneal_rows"]
