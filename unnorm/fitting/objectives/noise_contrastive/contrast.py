"""Contrasts of data with noise that are sums: a term at the data and terms at the noise, each of
the log ratio alone.

loss_i = a(r(x_i)) + Σ_k b(r(y_ik)), r = log p̃ − log Z − log p_n, with log Z learned. A sum needs
no draws of its own:
the noise's exact expectation over weighted states may stand in their place.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.noise_contrastive.noise import (
    Point,
    WithNoise,
    point_at,
    sampled_log_z,
    total_of,
)


class Contrast(WithNoise):
    """What NCE and the self-normalised likelihood share; they differ in `data_term` and
    `noise_term`.
    """

    def data_term(self, log_ratio: jax.Array) -> jax.Array:
        """a(r)."""
        raise NotImplementedError

    def noise_term(self, log_ratio: jax.Array) -> jax.Array:
        """b(r), of one noise point."""
        raise NotImplementedError

    def prepare(self, density, events, key):
        state = super().prepare(density, events, key)
        return state._replace(nuisance={"log_z": sampled_log_z(self, density, state, events)})

    def losses(self, density, state, events):
        on_data, on_noise = self.log_ratios(density, state, events)
        return self.data_term(on_data) + jnp.sum(
            state.shared.get("weights", 1.0) * self.noise_term(on_noise), -1
        )

    def margins(self, density, state, events):
        if any(not support.discrete for support in density.variables.values()):
            return None
        on_data, on_noise = self.log_ratios(density, state, events)
        return jnp.concatenate([self.data_margins(on_data), -on_noise.ravel()])

    def data_margins(self, log_ratios: jax.Array) -> jax.Array:
        """What of the log ratios at the data can make the loss fall for ever."""
        return log_ratios

    def noise_slope(self, density, state, events):
        return _noise_slope(self, density, state, events)

    def noise_variance(self, density, state, events):
        return None if "states" in state.shared else _drawn_variance(self, density, state)

    def information(self, density, state, events):
        return _information(self, density, state, events)


def over_noise(
    objective: Contrast, density, state: ObjectiveState, function: Callable[[Point], Any]
) -> Any:
    """The sum over the noise of one row, on average over the rows."""
    at = point_at(objective, density, state)
    if "states" in state.shared:
        states = state.shared["states"], state.shared["weights"]
        return total_of(
            lambda given: jax.tree.map(lambda part: given[1] * part, function(at(given[0]))), states
        )
    noise, rows = state.per_row["noise"], len(state.per_row["on_data"])
    points = jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]), noise)
    return jax.tree.map(
        lambda part: part / rows, total_of(lambda event: function(at(event)), points)
    )


@jax.jit
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
    return total_of(at_data, events) / rows + over_noise(objective, density, state, at_noise)


@jax.jit
def _drawn_variance(objective: Contrast, density, state: ObjectiveState) -> jax.Array:
    """ν Cov_y(b'(r) g), all noise points pooled."""

    def moments(point):
        score = jax.grad(objective.noise_term)(point.log_ratio) * point.gradient
        return score, jnp.outer(score, score)

    first, second = over_noise(objective, density, state, moments)
    return second - jnp.outer(first, first) / objective.noise_ratio


@jax.jit
def _information(objective: Contrast, density, state: ObjectiveState, events: dict) -> jax.Array:
    """−mean_x a'(r): how much of ∇ log p̃(x) enters the score."""
    return -jax.vmap(jax.grad(objective.data_term))(
        objective.log_ratios(density, state, events)[0]
    ).mean()
