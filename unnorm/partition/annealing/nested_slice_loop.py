"""The compiled part of nested sampling: live points of a base that climb the contours of p̃/q
(BlackJAX's slices).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.ns import adaptive, base, nss
from jax.flatten_util import ravel_pytree

from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.particles import started
from unnorm.partition.annealing.transitions import OUTSIDE, height_of
from unnorm.partition.proposals.mixture import Base, blank, log_base

REST = (
    -5.0
)  # log of the share of Z that the live points still hold when the run ends: they are counted too
DEEPEST = 400  # nats that a run may shrink the mass of q by
BATCH = 10  # a tenth of the live points is replaced at a time, as one compiled step


class Place(NamedTuple):
    """Where a point is, and from which of the first live points it descends."""

    at: dict
    family: jax.Array


class Explored(NamedTuple):
    """A run: the ratios p̃/q (logs) at which each dead point died and above which it was drawn."""

    died: jax.Array  # (rounds, batch), of which `rounds_done` are filled
    ranks: jax.Array  # (rounds, batch), of the new points among those above the contour, on (0, 1)
    contours: jax.Array  # (rounds, batch), above which the dead points were drawn
    families: jax.Array  # (rounds, batch), theirs
    places: jax.Array  # (rounds, batch, D), where they died
    last: Any  # the last live points
    rounds: jax.Array
    rest: jax.Array  # log of the share of Z in the live points
    slices: jax.Array  # evaluations of all slices
    moved: jax.Array  # share of the slices that found a new point


def flattened(positions: dict) -> jax.Array:
    """(N, D), of continuous positions."""
    return jax.vmap(lambda position: ravel_pytree(position)[0])(positions)


@functools.partial(jax.jit, static_argnames=("live", "steps"))
def explored(density: Density, base_law: Base, key: jax.Array, live: int, steps: int) -> Explored:
    """The whole run, one compiled loop: it ends where the live points hold a share of Z below
    exp(`REST`).
    """
    batch, rounds = max(1, live // BATCH), DEEPEST * live // max(1, live // BATCH)
    dtype = base_law.dtype
    made = functools.partial(
        base.init_state_strategy,
        logprior_fn=lambda place: log_base(density, base_law, place.at),
        loglikelihood_fn=lambda place: _height(density, base_law, place.at),
    )
    kernel = nss.build_kernel(
        made, steps, batch, proposal=_proposal, inner_kernel_params=_directions
    )
    start, key = jax.random.split(key)
    first = Place(started(density, base_law, start, live).position, jnp.arange(live))
    state = adaptive.init(first, jax.vmap(made), -jnp.inf, _directions, start)

    def going(carry):
        state, record, _ = carry
        lost = ~jnp.all(state.particles.loglikelihood < jnp.inf)  # a NaN, too
        return (record.rest > REST) & (record.rounds < rounds) & ~lost

    def replace(carry):
        state, record, key = carry
        key, move, even = jax.random.split(key, 3)
        state, info = kernel(move, state)
        dead, slices, gained, at = info.particles, info.update_info, state.integrator, record.rounds
        record = record._replace(
            died=record.died.at[at].set(dead.loglikelihood),
            contours=record.contours.at[at].set(dead.loglikelihood_birth),
            families=record.families.at[at].set(dead.position.family),
            places=record.places.at[at].set(flattened(dead.position.at)),
            ranks=record.ranks.at[at].set(
                _ranks(state.particles, dead.loglikelihood.max(), batch, even)
            ),
            rounds=at + 1,
            rest=gained.logZ_live - jnp.logaddexp(gained.logZ, gained.logZ_live),
            slices=record.slices + jnp.sum(slices.num_expansions + slices.num_shrink + 2),
            moved=record.moved + jnp.mean(slices.is_accepted, dtype=dtype),
        )
        return state, record, key

    empty, whole, none = jnp.zeros((rounds, batch), dtype), jnp.zeros((), int), jnp.zeros((), dtype)
    places = jnp.zeros((rounds, batch, base_law.centres.shape[1]), dtype)
    record = Explored(
        empty, empty, empty, empty.astype(int), places, None, whole, none, whole, none
    )
    state, record, _ = jax.lax.while_loop(going, replace, (state, record, key))
    return record._replace(last=state.particles, moved=record.moved / jnp.maximum(record.rounds, 1))


def _directions(key, state, info, parameters) -> dict[str, jax.Array]:
    """The root of the live points' covariance, kept a little diagonal: few of them may leave it
    flat.
    """
    del key, info, parameters  # BlackJAX's contract
    flat = flattened(state.particles.position.at)
    covariance = jnp.atleast_2d(jnp.cov(flat, rowvar=False))
    return {
        "factor": jnp.linalg.cholesky(covariance + jnp.diag(1e-6 * jnp.diag(covariance) + 1e-30))
    }


def _proposal(made, contour, *, factor):
    """Slices through a point along a random direction of the live points' covariance; its family
    stays.
    """

    def through(key, place, log_density):
        del log_density  # BlackJAX's contract
        direction = nss.sample_direction_from_covariance_factor(key, place.at, factor)

        def at(t):
            moved = jax.tree.map(lambda here, way: here + t * way, place.at, direction)
            state = made(place._replace(at=moved), loglikelihood_birth=contour)
            return state, state.loglikelihood > contour

        return at

    return through


@jax.jit
def pulls(density: Density, points: jax.Array) -> jax.Array:
    """∂ log p̃ at points (N, D), the Jacobian counted."""
    slope = jax.grad(lambda flat: Unconstrained(density).log_density(blank(density, flat.dtype)[1](flat)))
    return jax.lax.map(slope, points, batch_size=1024)


def _height(density: Density, base_law: Base, position: dict) -> jax.Array:
    """log p̃/q. A NaN becomes +inf, for a contour would hide it among the points below; outside is
    a finite low.
    """
    ratio = height_of(density, position) - log_base(density, base_law, position)
    ratio = jnp.where(jnp.isnan(ratio), jnp.inf, ratio)
    return jnp.maximum(ratio, OUTSIDE)


def _ranks(particles: Any, contour: jax.Array, batch: int, key: jax.Array) -> jax.Array:
    """Where each new point lies among the others above its contour and the new ones before it:
    uniform if all is well.

    The new points are those that were born at the contour; ties are broken evenly.
    """
    heights, fresh = particles.loglikelihood, particles.loglikelihood_birth == contour
    new = jnp.where(fresh, size=batch)[0]
    older = jnp.sum((heights < heights[new][:, None]) & ~fresh, 1)
    among = jnp.sum(jnp.tril(heights[new] < heights[new][:, None], -1), 1)
    rivals = jnp.sum(~fresh) + jnp.arange(batch)
    return (older + among + jax.random.uniform(key, (batch,), heights.dtype)) / (rivals + 1)


__all__ = ["REST", "Explored", "explored", "flattened", "pulls"]
