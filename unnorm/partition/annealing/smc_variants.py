"""Sequential Monte Carlo that throws no state away: waste-free and persistent, in several
independent populations.
"""

import functools
import math

import jax
import jax.numpy as jnp
from blackjax.smc import resampling
from jax.scipy.special import logsumexp

from unnorm.declaration.density import Density
from unnorm.partition.annealing.particles import Run, Schedule, started
from unnorm.partition.annealing.transitions import Moves, Walker, cost_of, moved
from unnorm.partition.proposals.mixture import Base

LENGTH = 10  # states of a chain of the waste-free variant


@functools.partial(jax.jit, static_argnames=("moves", "count", "populations"))
def waste_free(
    density: Density,
    base: Base,
    schedule: Schedule,
    key: jax.Array,
    moves: Moves,
    count: int,
    populations: int,
) -> tuple[jax.Array, Run]:
    """log Ẑ of each population, and the walkers at the end; all states of short chains are the next
    particles.

    At each temperature count / LENGTH of the particles are drawn by their weights, and each walks
    LENGTH − 1 moves.
    """
    chains = count // LENGTH

    def population(key):
        start, key = jax.random.split(key)
        walkers = started(density, base, start, chains * LENGTH)
        none = jnp.zeros_like(walkers.bad[:chains])

        def step(carry, given):
            walkers, log_z, before = carry
            (power, widths), key = given
            logs = (power - before) * walkers.log_ratio
            choose, key = jax.random.split(key)
            chosen = resampling.systematic(choose, jax.nn.softmax(logs), chains)
            first = jax.tree.map(lambda leaf: leaf[chosen], walkers)._replace(bad=none)

            def move(walkers, key):
                keys = jax.random.split(key, chains)
                walkers, accepted = jax.vmap(
                    lambda walker, key: moved(density, base, moves, power, walker, key, widths)
                )(walkers, keys)  # fmt: skip
                return walkers, (walkers, accepted.mean())

            last, (rest, accepted) = jax.lax.scan(move, first, jax.random.split(key, LENGTH - 1))
            walkers = jax.tree.map(lambda a, b: jnp.concatenate([a, *b]), first, rest)
            return (walkers, log_z + logsumexp(logs) - math.log(len(logs)), power), (
                accepted.mean(),
                last.bad.sum(),
            )

        bad, zero = walkers.bad.sum(), jnp.zeros((), base.dtype)
        given = tuple(schedule), jax.random.split(key, len(schedule.powers))
        (walkers, log_z, _), (accepted, more) = jax.lax.scan(step, (walkers, zero, zero), given)
        return log_z, walkers, accepted, bad + more.sum()

    return _pooled(*jax.vmap(population)(jax.random.split(key, populations)))


@functools.partial(jax.jit, static_argnames=("moves", "count", "populations"))
def persistent(
    density: Density,
    base: Base,
    schedule: Schedule,
    key: jax.Array,
    moves: Moves,
    count: int,
    populations: int,
) -> tuple[jax.Array, Run]:
    """As `waste_free`, but the particles of all temperatures so far stay, weighted as draws of
    their mixture.

    log Z_t is the log of the mean of q^(1−λ_t) p̃^λ_t over (1/t) Σ_s q^(1−λ_s) p̃^λ_s / Z_s, over
    all that was drawn.
    """
    stages = len(schedule.powers)

    def population(key):
        start, key = jax.random.split(key)
        first = started(density, base, start, count)
        seen = jax.tree.map(
            lambda leaf: jnp.zeros((stages + 1, *leaf.shape), leaf.dtype).at[0].set(leaf), first
        )
        ratios = jnp.zeros((stages + 1, count), base.dtype).at[0].set(first.log_ratio)
        powers = jnp.concatenate([jnp.zeros(1, base.dtype), schedule.powers])

        def step(carry, given):
            seen, ratios, mixture, log_zs = (
                carry  # mixture: log Σ_s q^−λ_s p̃^λ_s / Z_s, over the stages so far
            )
            (power, widths), key, stage = given
            drawn = jnp.arange(stages + 1)[:, None] < stage  # the base's first
            logs = jnp.where(drawn, power * ratios - mixture + jnp.log(stage), -jnp.inf)
            log_z = logsumexp(logs) - jnp.log(stage * count)
            choose, move = jax.random.split(key)
            chosen = resampling.systematic(choose, jax.nn.softmax(logs.ravel()), count)
            walkers = jax.tree.map(lambda leaf: leaf[chosen // count, chosen % count], seen)
            walkers, accepted = jax.vmap(
                lambda walker, key: moved(density, base, moves, power, walker, key, widths)
            )(walkers._replace(bad=jnp.zeros_like(walkers.bad)), jax.random.split(move, count))  # fmt: skip
            seen = jax.tree.map(lambda all, new: all.at[stage].set(new), seen, walkers)
            new, log_zs = walkers.log_ratio, log_zs.at[stage].set(log_z)
            upto = jnp.arange(stages + 1)[:, None] <= stage
            of_new = logsumexp(
                jnp.where(upto, powers[:, None] * new - log_zs[:, None], -jnp.inf), 0
            )
            mixture = jnp.logaddexp(mixture, power * ratios - log_z).at[stage].set(of_new)
            return (seen, ratios.at[stage].set(new), mixture, log_zs), (
                accepted.mean(),
                walkers.bad.sum(),
            )

        given = tuple(schedule), jax.random.split(key, stages), jnp.arange(1, stages + 1)
        carry = seen, ratios, jnp.zeros_like(ratios), jnp.zeros(stages + 1, base.dtype)
        (seen, _, _, log_zs), (accepted, bad) = jax.lax.scan(step, carry, given)
        last = jax.tree.map(lambda leaf: leaf[-1], seen)
        return log_zs[-1], last, accepted, first.bad.sum() + bad.sum()

    return _pooled(*jax.vmap(population)(jax.random.split(key, populations)))


def _pooled(
    log_z: jax.Array, walkers: Walker, accepted: jax.Array, bad: jax.Array
) -> tuple[jax.Array, Run]:
    """Every population's log Ẑ, and all walkers as one run whose families are the populations."""
    count = walkers.log_target.shape[1]
    flat = jax.tree.map(lambda leaf: jnp.concatenate(list(leaf)), walkers)
    logs, families = jnp.repeat(log_z, count), jnp.repeat(jnp.arange(len(log_z)), count)
    none = jnp.zeros(0, logs.dtype)
    return log_z, Run(flat, logs, families, none, none, accepted.mean(0), jnp.zeros(()), bad.sum())


def cost_of_populations(
    density: Density, moves: Moves, variant: str, count: int, populations: int, temperatures: int
) -> dict[str, int]:
    """Evaluations of a run."""
    each = count // LENGTH * (LENGTH - 1) if variant == "waste_free" else count
    return cost_of(density, moves, populations * (count + each * temperatures))


__all__ = ["LENGTH", "cost_of_populations", "persistent", "waste_free"]
