"""Noise for every row that was made without it: a flow for each fold of the rows, of the others."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import fold_in, split_keys
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.flow_distribution import log_prob_of_event
from unnorm.fitting.objectives.noise_contrastive.contrast import LogisticContrast
from unnorm.fitting.objectives.noise_contrastive.flow_game import (
    GAME,
    FlowStatistics,
    flow_optimizer,
)


class Folds(NamedTuple):
    """The rows in K folds, and the noise of each.

    Attributes:
        members: (K, m), the rows of a fold; the number of rows n, where it has fewer.
        others: (K, n − m), rows of which the fold's noise is made: none of its own.
        statistics: of the noise, stacked.
        moments: of the flows' optimizer, stacked.
    """

    members: jax.Array
    others: jax.Array
    statistics: FlowStatistics
    moments: Any


def cross_fit(objective: Any, density, events: dict, key: jax.Array) -> Folds:
    """The folds, with the noise of each at maximum likelihood on the rows of the others."""
    order_key, key = split_keys(key)
    members, others = split_rows(len(next(iter(events.values()))), GAME.folds, order_key)
    noises = [
        objective.noise_from(
            density, {name: value[rows] for name, value in events.items()}, fold_in(key, fold)
        )
        for fold, rows in enumerate(others)
    ]
    statistics = jax.tree.map(lambda *leaves: jnp.stack(leaves), *noises)
    moments = jax.vmap(flow_optimizer().init)(statistics.flow.parameters)
    return Folds(jnp.asarray(members), jnp.asarray(others), statistics, moments)


def split_rows(rows: int, count: int, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """`members` and `others` of `Folds`: random folds, equally many rows outside of each."""
    order, size = np.asarray(jax.random.permutation(key, rows)), -(-rows // count)
    folds = [order[start : start + size] for start in range(0, rows, size)]
    members = np.full((len(folds), size), rows)
    for fold, one in enumerate(folds):
        members[fold, : len(one)] = one
    others = [np.setdiff1d(order, one)[: rows - size] for one in folds]
    return members, np.stack(others)


@compiled
def with_fresh_noise(
    objective: LogisticContrast, density, state: ObjectiveState, events: dict, key: jax.Array
) -> ObjectiveState:
    """The state with noise of every row drawn from its fold's flow; without folds from the one."""
    game = state.shared

    def of_fold(statistics, members, key):
        own = jax.tree.map(lambda leaf: leaf[members], events)
        return objective.draw_rows(density, statistics, own, key)

    if game.folds is None:
        return state._replace(per_row=objective.draw_rows(density, game.statistics, events, key))
    folds = game.folds
    keys = jax.random.split(key, len(folds.members))
    rows = jax.vmap(of_fold)(folds.statistics, folds.members, keys)
    return state._replace(per_row=jax.tree.map(lambda leaf: _in_order(folds, events, leaf), rows))


@compiled
def mean_log_likelihoods(
    objective: LogisticContrast, density, state: ObjectiveState, events: dict
) -> tuple[jax.Array, jax.Array]:
    """Mean log p and mean log q at the rows, of every row by its fold's flow."""
    game = state.shared

    def of_flow(flow, events):
        return jax.vmap(lambda event: log_prob_of_event(density, flow, event))(events)

    def of_fold(flow, members):
        return of_flow(flow, jax.tree.map(lambda leaf: leaf[members], events))

    energy = jax.vmap(density.log_density)(events).mean() - state.nuisance["log_z"]
    if game.folds is None:
        return energy, of_flow(game.statistics.flow, events).mean()
    values = jax.vmap(of_fold)(game.folds.statistics.flow, game.folds.members)
    return energy, _in_order(game.folds, events, values).mean()


def _in_order(folds: Folds, events: dict, leaf: jax.Array) -> jax.Array:
    """(K, m, ...) by fold as (n, ...) in the order of the rows."""
    rows = len(next(iter(events.values())))
    places, values = folds.members.ravel(), leaf.reshape((-1,) + leaf.shape[2:])
    return jnp.zeros((rows,) + values.shape[1:], leaf.dtype).at[places].set(values, mode="drop")


__all__ = ["Folds", "cross_fit", "mean_log_likelihoods", "split_rows", "with_fresh_noise"]
