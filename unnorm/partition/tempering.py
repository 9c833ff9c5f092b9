"""The compiled part of sequential Monte Carlo: a normalized base, the moves, and one run from base to density."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc
from blackjax.smc import adaptive_tempered, resampling
from jax.flatten_util import ravel_pytree

from unnorm.density import Density
from unnorm.sampling.base import Target
from unnorm.sampling.kernels import Gibbs
from unnorm.supports import Support

FREEDOM = 5.0  # of the base's Student t: heavier than the density, so that importance weights stay bounded
TARGET_ESS = 0.5  # of the particles, which the next temperature keeps
MOST_TEMPERATURES = 300
LEAPFROGS = 4
ACCEPTANCE = 0.8
OUTSIDE = -1e30  # in place of minus infinity, which times a temperature of 0 would be NaN
DENSE = 200  # above so many coordinates covariances are kept diagonal


class Base(NamedTuple):
    """Where tempering starts: u = centre + factor · t with t of Student's law, and uniform discrete states."""

    centre: jax.Array  # (D,)
    factor: jax.Array  # (D, D), lower triangular; (D,) where D is large


class Record(NamedTuple):
    """What a run tells, for the verdict."""

    log_z: jax.Array
    temperatures: jax.Array
    reached: jax.Array
    least_ess: jax.Array
    least_acceptance: jax.Array
    stickiness: jax.Array  # the worst correlation of a coordinate before and after the moves of one temperature
    ancestors: jax.Array  # how many of the first particles have descendants


class Outcome(NamedTuple):
    """A run's record, and the mean and the spread of its last particles, from which a better base is made."""

    record: Record
    mean: jax.Array
    spread: jax.Array


class Place(NamedTuple):
    position: dict


class Tempered(NamedTuple):
    """The part of a target that Gibbs asks for, at one temperature."""

    supports: dict[str, Support]
    log_density: Any


class Carry(NamedTuple):
    smc: Any
    key: jax.Array
    log_step: jax.Array
    family: jax.Array
    record: Record


# -- the base --------------------------------------------------------------------------
def parts(density: Density, position: dict) -> tuple[dict, dict]:
    """The continuous and the discrete part of a position."""
    discrete = {name for name, support in density.variables.items() if support.discrete}
    return (
        {name: value for name, value in position.items() if name not in discrete},
        {name: value for name, value in position.items() if name in discrete},
    )


def draw(density: Density, base: Base, widening: jax.Array, key: jax.Array, dtype) -> dict:
    """One position from the base."""
    walk, radius, rest = jax.random.split(key, 3)
    position = Target(density).random_position(rest, dtype)  # its discrete part is uniform over the states
    continuous, discrete = parts(density, position)
    if not continuous:
        return discrete
    _, unravel = ravel_pytree(continuous)
    normal = jax.random.normal(walk, base.centre.shape, dtype)
    stretch = widening * jnp.sqrt(FREEDOM / (2 * jax.random.gamma(radius, FREEDOM / 2, dtype=dtype)))
    scaled = base.factor @ normal if base.factor.ndim == 2 else base.factor * normal
    return unravel(base.centre + stretch * scaled) | discrete


def log_base(density: Density, base: Base, widening: jax.Array, position: dict) -> jax.Array:
    """The log-density of the base at a position, normalized."""
    continuous, discrete = parts(density, position)
    states = {name: len(density.variables[name].states) for name in discrete}
    value = -sum(discrete[name].size * math.log(count) for name, count in states.items())
    if not continuous:
        return jnp.asarray(value, jnp.result_type(*discrete.values()))
    flat, _ = ravel_pytree(continuous)
    size, apart = flat.size, (flat - base.centre) / widening
    dense = base.factor.ndim == 2
    z = jax.scipy.linalg.solve_triangular(base.factor, apart, lower=True) if dense else apart / base.factor
    diagonal = jnp.diag(base.factor) if dense else base.factor
    constant = math.lgamma((FREEDOM + size) / 2) - math.lgamma(FREEDOM / 2) - 0.5 * size * math.log(FREEDOM * math.pi)
    log_det = jnp.sum(jnp.log(diagonal)) + size * jnp.log(widening)
    return value + constant - log_det - 0.5 * (FREEDOM + size) * jnp.log1p(z @ z / FREEDOM)


def refuse_unmovable(who: str, density: Density) -> None:
    """Raise where a variable is discrete and no Gibbs sweep moves it."""
    for name, support in density.variables.items():
        if support.discrete and not Gibbs().serves(support):
            raise ValueError(
                f"Variable {name} is {support!r}, which {who} has no moves for; expected a continuous or a finite one, "
                "such as Binary or Spin; use Exact()."
            )


# -- the moves -------------------------------------------------------------------------
def mover(density: Density):
    """The step of BlackJAX's SMC: HMC on the continuous part, then a Gibbs sweep over the discrete part."""
    leap = hmc.build_kernel()

    def step(key, place, log_density, step_size, inverse_mass):
        keys = jax.random.split(key)
        continuous, discrete = parts(density, place.position)
        accepted = jnp.ones(())
        if continuous:

            def of_continuous(moving):
                return log_density(moving | discrete)

            state = hmc.init(continuous, of_continuous)
            state, info = leap(keys[0], state, of_continuous, step_size, inverse_mass, LEAPFROGS)
            continuous, accepted = state.position, jnp.nan_to_num(info.acceptance_rate)
        if discrete:
            sampler = Gibbs().build(Tempered(density.variables, log_density), {})
            state = sampler.init(continuous | discrete)
            state, info = sampler.step(Gibbs().noise(keys[1], discrete), state)
            return Place(state.position), accepted if continuous else info["flip_rate"]
        return Place(continuous), accepted

    return step


def stickiness(before: dict, after: dict) -> jax.Array:
    """The largest correlation, over coordinates, of the particles before and after their moves."""

    def standard(particles):
        flat = jax.vmap(lambda position: ravel_pytree(position)[0])(particles)
        return (flat - flat.mean(0)) / (flat.std(0) + 1e-30)

    return jnp.max(jnp.mean(standard(before) * standard(after), axis=0))


def spread(density: Density, particles: dict, weights: jax.Array, dense: bool) -> tuple[jax.Array, jax.Array]:
    """The mean of the continuous coordinates (D,) and their covariance (D, D); variances (D,) where D is large."""
    continuous, _ = parts(density, particles)
    if not continuous:
        return jnp.zeros(1, weights.dtype), jnp.ones(1, weights.dtype)
    flat = jax.vmap(lambda position: ravel_pytree(position)[0])(continuous)
    mean = weights @ flat
    apart = flat - mean
    variances = weights @ apart**2 + 1e-20
    if not dense:
        return mean, variances
    # A little of it kept diagonal: few particles may leave a covariance flat.
    return mean, 0.95 * (apart.T * weights) @ apart + 0.05 * jnp.diag(variances)


# -- one run ---------------------------------------------------------------------------
def run(density: Density, base: Base, widening: jax.Array, key: jax.Array, particles: int, moves: int) -> Outcome:
    """One run of adaptive tempered SMC from the base to the density; its log Z is the sum of BlackJAX's increments."""
    dtype = jnp.result_type(base.centre)
    target, dense = Target(density), base.factor.ndim == 2

    def prior(position):
        return log_base(density, base, widening, position)

    def ratio(position):
        return jnp.maximum(target.log_density(position) - prior(position), OUTSIDE)  # lets NaN through

    kernel = adaptive_tempered.build_kernel(
        prior, ratio, mover(density), lambda position, _: Place(position), resampling.systematic, TARGET_ESS
    )
    start, key = jax.random.split(key)
    positions = jax.vmap(lambda one: draw(density, base, widening, one, dtype))(jax.random.split(start, particles))
    state = adaptive_tempered.init(positions)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), state)

    def going(carry):
        record = carry.record
        return (carry.smc.tempering_param < 1) & (record.temperatures < MOST_TEMPERATURES) & ~jnp.isnan(record.log_z)

    def cool(carry):
        key, one, jitter = jax.random.split(carry.key, 3)
        # A spread of step sizes, for one fixed length of path may return to where it began.
        steps = jnp.exp(carry.log_step) * jax.random.uniform(jitter, (particles,), dtype, 0.5, 1.5)
        mass = spread(density, carry.smc.particles, carry.smc.weights, dense)[1]
        smc, info = kernel(one, carry.smc, moves, {"step_size": steps, "inverse_mass": mass[None]})
        accepted = info.update_info.mean()
        stuck = stickiness(jax.tree.map(lambda leaf: leaf[info.ancestors], carry.smc.particles), smc.particles)
        family, record = carry.family[info.ancestors], carry.record
        record = Record(
            log_z=record.log_z + info.log_likelihood_increment,
            temperatures=record.temperatures + 1,
            reached=smc.tempering_param,
            least_ess=jnp.minimum(record.least_ess, 1 / jnp.sum(smc.weights**2) / particles),
            least_acceptance=jnp.minimum(record.least_acceptance, accepted),
            stickiness=stuck,
            ancestors=jnp.sum(jnp.zeros(particles).at[family].set(1.0)).astype(dtype),
        )
        log_step = jnp.clip(carry.log_step + 2 * (accepted - ACCEPTANCE), -12.0, 1.0)
        return Carry(smc, key, log_step.astype(dtype), family, record)

    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    record = Record(zero, jnp.zeros((), int), zero, one, one, zero, one * particles)
    log_step = jnp.asarray(-0.25 * math.log(max(base.centre.size, 1)), dtype)
    last = jax.lax.while_loop(going, cool, Carry(state, key, log_step, jnp.arange(particles), record))
    mean, width = spread(density, last.smc.particles, last.smc.weights, dense)
    return Outcome(last.record, mean, width)
