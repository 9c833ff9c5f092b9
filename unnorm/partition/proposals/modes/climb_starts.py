"""Where climbs begin: at random, near and far, in a box, and at the heaviest draws."""

from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.modes.climb import SEARCH


def positions_at_scales(view: Unconstrained, keys: jax.Array, dtype: Any) -> Position:
    """Random positions, near and far: few of them may lead to a narrow mode beside a wide one."""

    def one(key, scale):
        position = view.random_position(key, dtype)
        return view.split(scale * view.flatten(position)) | view.discrete(position)

    scales = jnp.resize(jnp.asarray(SEARCH.start_scales, dtype), (len(keys),))
    return jax.vmap(one)(keys, scales)


@compiled
def random_starts(view: Unconstrained, key: jax.Array) -> Position:
    """Random positions at all scales."""
    keys = key_array(key, SEARCH.starts)
    return positions_at_scales(view, keys, jnp.result_type(float))


@compiled
def starts_in_box(
    view: Unconstrained, key: jax.Array, centre: jax.Array, reach: jax.Array
) -> Position:
    """Positions in a box, of a density whose variables are all continuous."""
    shape = (SEARCH.starts, centre.size)
    uniform = jax.random.uniform(key, shape, centre.dtype, -1.0, 1.0)
    return jax.vmap(view.split)(centre + reach * uniform)


@compiled
def heaviest_draws(view: Unconstrained, proposal: Proposal, key: jax.Array) -> Position:
    """Positions drawn from the proposal and resampled by their importance weights."""
    draw_key, choose = split_keys(key)
    positions = proposal.sample(draw_key, SEARCH.draws)
    ratios = jax.vmap(lambda here: view.log_density(here) - proposal.log_prob(here))(positions)
    ratios = jnp.where(jnp.isnan(ratios) | jnp.isposinf(ratios), -jnp.inf, ratios)
    ratios = jnp.where(jnp.isneginf(ratios).all(), 0.0, ratios)
    chosen = jax.random.categorical(choose, ratios, shape=(SEARCH.starts,))
    return jax.tree.map(lambda leaf: leaf[chosen], positions)


@compiled
def with_random_states(view: Unconstrained, key: jax.Array, points: jax.Array) -> Position:
    """Positions with these continuous coordinates (N, D), the discrete variables at random
    states.
    """

    def one(point, key):
        return view.split(point) | view.discrete(view.random_position(key, point.dtype))

    return jax.vmap(one)(points, key_array(key, len(points)))


@compiled
def heights_at(view: Unconstrained, key: jax.Array, points: jax.Array) -> jax.Array:
    """log p̃ in unconstrained coordinates at the points (S, D), the discrete variables at one
    random state.
    """
    discrete = view.discrete(view.random_position(key, points.dtype))
    return jax.vmap(lambda flat: view.log_density(view.split(flat) | discrete))(points)
