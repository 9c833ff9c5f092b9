"""Contrasts of data with noise that are sums of functions of the log ratio, with log Z learned.

loss_i = a(r(x_i)) + Σ_k b(r(y_ik)), r = log p̃ − log Z − log p_n. In place of the sum over draws
there may be the noise's exact expectation, over weighted states.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.loss import parameters_of
from unnorm.fitting.objectives.noise_contrastive.noise import (
    Point,
    WithNoise,
    importance_log_z,
    point_at,
    row_sum,
)


class Contrast(WithNoise):
    """Base of NCE and the self-normalised likelihood, which define `data_term` and `noise_term`."""

    def data_term(self, log_ratio: jax.Array) -> jax.Array:
        """Return a(r)."""
        raise NotImplementedError

    def noise_term(self, log_ratio: jax.Array) -> jax.Array:
        """Return b(r) of one noise point."""
        raise NotImplementedError

    def prepare(self, density, events, key) -> ObjectiveState:
        state = super().prepare(density, events, key)
        return state._replace(nuisance={"log_z": importance_log_z(self, density, state, events)})

    def losses(self, density, state, events) -> jax.Array:
        on_data, on_noise = self.log_ratios(density, state, events)
        terms = self.noise_term(on_noise)
        states = state.shared.states
        return self.data_term(on_data) + jnp.sum(
            terms if states is None else states.weights * terms, -1
        )

    def learned_log_z(self, nuisance) -> jax.Array:
        return nuisance["log_z"]

    def margins(self, density, state, events) -> jax.Array | None:
        if any(not support.discrete for support in density.variables.values()):
            return None
        on_data, on_noise = self.log_ratios(density, state, events)
        return jnp.concatenate([self.data_margins(on_data), -on_noise.ravel()])

    def data_margins(self, log_ratios: jax.Array) -> jax.Array:
        """Return the log ratios at the data, or functions of them, in which the loss decreases."""
        return log_ratios

    def noise_slope(self, density, state, events) -> jax.Array:
        return _noise_slope(self, density, state, events)

    def noise_variance(self, density, state, events) -> jax.Array | None:
        return _draw_variance(self, density, state) if state.shared.states is None else None

    def shares(self, density, state, events) -> jax.Array:
        return _shares(self, density, state, events)


class LogisticContrast(Contrast):
    """Base of the objectives that tell data from noise by logistic regression."""

    def data_term(self, log_ratio) -> jax.Array:
        return jax.nn.softplus(math.log(self.noise_ratio) - log_ratio)

    def noise_term(self, log_ratio) -> jax.Array:
        return jax.nn.softplus(log_ratio - math.log(self.noise_ratio))


def sum_over_noise(
    objective: Contrast, density, state: ObjectiveState, function: Callable[[Point], Any]
) -> Any:
    """Return the sum over the noise of one row, on average over the rows."""
    at = point_at(objective, density, state)
    if state.shared.states is not None:
        return row_sum(
            lambda given: jax.tree.map(lambda part: given[1] * part, function(at(given[0]))),
            (state.shared.states.events, state.shared.states.weights),
        )
    noise, rows = state.per_row.noise, len(state.per_row.on_data)
    points = jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]), noise)
    return jax.tree.map(
        lambda part: part / rows, row_sum(lambda event: function(at(event)), points)
    )


@compiled
def _noise_slope(objective: Contrast, density, state: ObjectiveState, events: dict) -> jax.Array:
    """d E[ψ] / dφ = −mean_x[a''(r) g s'] + Σ_y (b'(r) − b''(r)) g s': b' for the draws, which
    follow φ as well.
    """
    at, a, b = point_at(objective, density, state), objective.data_term, objective.noise_term

    def at_data(event):
        r, g, s = at(event)
        return -jax.grad(jax.grad(a))(r) * jnp.outer(g, s)

    def at_noise(point):
        r, g, s = point
        return (jax.grad(b)(r) - jax.grad(jax.grad(b))(r)) * jnp.outer(g, s)

    rows = len(jax.tree.leaves(events)[0])
    return row_sum(at_data, events) / rows + sum_over_noise(objective, density, state, at_noise)


@compiled
def _draw_variance(objective: Contrast, density, state: ObjectiveState) -> jax.Array:
    """ν Cov_y(b'(r) g), all noise points pooled, each with its own log p_n."""
    vector, unravel = parameters_of(density, state)

    def loss(vector, event, log_noise):
        free, nuisance = unravel(vector)
        log_model = objective.log_model(density.at(free))(event)
        return objective.noise_term(log_model - nuisance.get("log_z", 0.0) - log_noise)

    def moments(point):
        score = jax.grad(loss)(vector, *point)
        return score, jnp.outer(score, score)

    rows = len(state.per_row.on_data)
    points = jax.tree.map(
        lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]),
        (state.per_row.noise, state.per_row.on_noise),
    )
    first, second = (total / rows for total in row_sum(moments, points))
    return second - jnp.outer(first, first) / objective.noise_ratio


@compiled
def _shares(objective: Contrast, density, state: ObjectiveState, events: dict) -> jax.Array:
    """−a'(r): the weight of ∇ log p̃(x) in the score."""
    return -jax.vmap(jax.grad(objective.data_term))(objective.log_ratios(density, state, events)[0])
