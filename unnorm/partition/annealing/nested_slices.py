"""The compiled loop of nested sampling: live points of a proposal climb the contours of p̃/q, by
BlackJAX's slices.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.ns import adaptive, base, nss

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.partition.annealing.tempered import keep_finite, log_target
from unnorm.partition.options import NESTED, NestedCriteria
from unnorm.partition.proposals.base import Proposal


class Place(NamedTuple):
    """The position of a point, and the first live point that it descends from."""

    position: Position
    lineage: jax.Array


class NestedRun(NamedTuple):
    """A run: log p̃/q at which each dead point died and above which it was drawn."""

    died: jax.Array  # (rounds, batch), of which the first `rounds` are filled
    ranks: jax.Array  # (rounds, batch), of the new points among those above the contour, on (0, 1)
    contours: jax.Array  # (rounds, batch), above which the dead points were drawn
    lineages: jax.Array  # (rounds, batch), theirs
    places: jax.Array  # (rounds, batch, D), where they died
    last: Any  # the last live points
    rounds: jax.Array
    rest: jax.Array  # log of the share of Z in the live points
    slices: jax.Array  # evaluations of all slices
    moved: jax.Array  # share of the slices that found a new point


@compiled(work="loop", static_argnames=("live", "steps", "criteria"))
def explore(
    proposal: Proposal, key: jax.Array, live: int, steps: int, criteria: NestedCriteria = NESTED
) -> NestedRun:
    """The whole run, one compiled loop: it ends where the live points hold little of Z."""
    view, dtype = proposal.view, proposal.dtype
    batch = max(1, live // criteria.batches)
    rounds = criteria.max_depth * live // batch

    def directions(key, state, info, parameters):
        """The Cholesky factor of the live points' covariance, shrunk to its diagonal a little."""
        del key, info, parameters  # BlackJAX's contract
        flat = jax.vmap(view.flatten)(state.particles.position.position)
        covariance = jnp.atleast_2d(jnp.cov(flat, rowvar=False))
        shrunk = covariance + jnp.diag(1e-6 * jnp.diag(covariance) + 1e-30)
        return {"factor": jnp.linalg.cholesky(shrunk)}

    made = functools.partial(
        base.init_state_strategy,
        logprior_fn=lambda place: proposal.log_prob(place.position),
        loglikelihood_fn=lambda place: _log_ratio(proposal, place.position),
    )
    kernel = nss.build_kernel(
        made, steps, batch, proposal=_proposal, inner_kernel_params=directions
    )
    start, key = split_keys(key)
    first = Place(proposal.sample(start, live), jnp.arange(live))
    state = adaptive.init(first, jax.vmap(made), -jnp.inf, directions, start)

    def goes_on(carry):
        state, record, _ = carry
        lost = ~jnp.all(state.particles.loglikelihood < jnp.inf)  # a NaN, too
        return (record.rest > criteria.log_live_fraction) & (record.rounds < rounds) & ~lost

    def replace(carry):
        state, record, key = carry
        key, move, even = split_keys(key, 3)
        state, info = kernel(move, state)
        dead, slices, gained, at = info.particles, info.update_info, state.integrator, record.rounds
        record = record._replace(
            died=record.died.at[at].set(dead.loglikelihood),
            contours=record.contours.at[at].set(dead.loglikelihood_birth),
            lineages=record.lineages.at[at].set(dead.position.lineage),
            places=record.places.at[at].set(jax.vmap(view.flatten)(dead.position.position)),
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
    places = jnp.zeros((rounds, batch, view.dimension), dtype)
    record = NestedRun(
        empty, empty, empty, empty.astype(int), places, None, whole, none, whole, none
    )
    state, record, _ = jax.lax.while_loop(goes_on, replace, (state, record, key))
    return record._replace(last=state.particles, moved=record.moved / jnp.maximum(record.rounds, 1))


def _proposal(made, contour, *, factor):
    """Slices through a point along a random direction of the live points' covariance; its lineage
    stays.
    """

    def through(key, place, log_density):
        del log_density  # BlackJAX's contract
        direction = nss.sample_direction_from_covariance_factor(key, place.position, factor)

        def at(t):
            moved = jax.tree.map(lambda here, way: here + t * way, place.position, direction)
            state = made(place._replace(position=moved), loglikelihood_birth=contour)
            return state, state.loglikelihood > contour

        return at

    return through


@compiled
def gradients_at(view: Unconstrained, points: jax.Array) -> jax.Array:
    """∂ log p̃ at points (N, D), with the Jacobian."""
    gradient = jax.grad(lambda flat: view.log_density(view.split(flat)))
    return jax.lax.map(gradient, points, batch_size=1024)


def _log_ratio(proposal: Proposal, position: Position) -> jax.Array:
    """log p̃/q. A NaN becomes +inf, because a contour would hide it among the points below; outside
    the support it is finite and low.
    """
    ratio = log_target(proposal.view, position) - proposal.log_prob(position)
    ratio = jnp.where(jnp.isnan(ratio), jnp.inf, ratio)
    return keep_finite(ratio)


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


__all__ = ["NestedRun", "explore", "gradients_at"]
