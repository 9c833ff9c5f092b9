"""Steps of a stochastic approximation, with the negatives' score covariance as metric."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import fold_in, split_keys
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.loss import NewtonOptions, lasso_strengths
from unnorm.fitting.penalties.terms import slope_and_curvature
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import add_ridge, solve


@dataclass(frozen=True)
class AveragingOptions:
    """Gains, budgets and the tolerance of averaged iterates.

    Attributes:
        approach_gain, average_gain: of the steps before and while iterates are averaged.
        chunk: steps in one compiled run.
        chunks: between two evaluations of the Monte Carlo error.
        approach_steps, average_steps: at most.
        relative_error: Monte Carlo error of the average, in standard errors, at which a fit may
            stop.
        learning_rate: of Adam, times the gain; for many parameters.
        batches: of which the batch means are taken.
    """

    approach_gain: float = 0.5
    average_gain: float = 0.2
    chunk: int = 200
    chunks: int = 5
    approach_steps: int = 5_000
    average_steps: int = 30_000
    relative_error: float = 0.05
    learning_rate: float = 1e-2
    batches: int = 20


DEFAULTS = AveragingOptions()


class Walk(NamedTuple):
    """Where a stochastic fit stands."""

    vector: jax.Array
    state: ObjectiveState
    metric: jax.Array  # the negatives' score covariance (p, p), or nothing under Adam
    moments: optax.OptState


@compiled
def begin(density, state) -> Walk:
    """Return the state of the approximation before its first step."""
    vector = ravel_pytree(density.free())[0]
    metric = (
        jnp.zeros((vector.size,) * 2)
        if vector.size <= NewtonOptions.parameters
        else jnp.zeros((0, 0))
    )
    return Walk(vector, state, metric, optax.scale_by_adam().init(vector))


@compiled(work="loop", static_argnames=("steps", "batch_size"))
def run_steps(
    objective, density, events, walk: Walk, key, gain, first, *, steps: int, batch_size: int | None
) -> Any:
    """Some steps at one gain; returns the walk, all its vectors, gradients and lengths, and the
    acceptance rates.
    """
    unravel = ravel_pytree(density.free())[1]
    second_order, rows = walk.metric.size > 0, len(next(iter(events.values())))
    strengths = lasso_strengths(density, walk.state)

    def score(vector, event):
        return jax.grad(lambda v: density.at(unravel(v)).log_density(event))(vector)

    def added(penalty, vector):
        """The penalties' gradient, and their curvature where the steps are of second order."""
        if penalty is None:
            return 0.0, 0.0
        at = density.at(unravel(vector))
        if not second_order:
            return ravel_pytree(jax.grad(penalty.of_free, 1)(at, at.free()))[0], 0.0
        slope, curvature = slope_and_curvature(penalty, at)
        return slope, jnp.diag(jnp.abs(jnp.diagonal(curvature)))  # a prior's logarithm may curve up

    def move(walk: Walk, step):
        step_key, batch_key = split_keys(fold_in(key, step))
        state, batch = walk.state, events
        if batch_size is not None:
            chosen = jax.random.choice(batch_key, rows, (batch_size,), replace=False)
            batch = jax.tree.map(lambda leaf: leaf[chosen], events)
            state = state._replace(per_row=jax.tree.map(lambda leaf: leaf[chosen], state.per_row))
        adaptation = jnp.where(gain < DEFAULTS.approach_gain, 0.0, (1.0 + step) ** -0.5)
        found = objective.gradient(
            density.at(unravel(walk.vector)),
            state,
            batch,
            step_key,
            adaptation.astype(walk.vector.dtype),
        )
        gradient, metric, moments = ravel_pytree(found.gradient)[0], walk.metric, walk.moments
        slope, curvature = added(walk.state.penalty, walk.vector)
        gradient = gradient + slope
        if second_order:
            scores = jax.vmap(score, (None, 0))(walk.vector, found.negatives)
            centred = scores - scores.mean(0)
            share = jnp.maximum(1 / (1.0 + step), 0.02)
            metric = (1 - share) * metric + share * centred.T @ centred / len(scores)
            vector, length = _metric_step(
                metric + curvature, gradient, walk.vector, gain, strengths
            )
        else:
            update, moments = optax.scale_by_adam().update(gradient, moments)
            vector, length = (
                walk.vector - gain * DEFAULTS.learning_rate * update,
                jnp.sqrt(DEFAULTS.learning_rate * update @ gradient),
            )
        kept = walk.state._replace(shared=found.state.shared)
        return Walk(vector, kept, metric, moments), (
            vector,
            gradient,
            length,
            found.acceptance,
        )

    return jax.lax.scan(move, walk, first + jnp.arange(steps))


def _metric_step(
    metric: jax.Array,
    gradient: jax.Array,
    vector: jax.Array,
    gain: jax.Array,
    strengths: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Where a step in the metric ends, and its length over the gain, no more than one: the metric
    may be another's.

    It ends at the minimum of g'z + (z − x)'M(z − x) / (2 gain) + Σ strength |z|.
    """
    regular = add_ridge(metric)
    if strengths is None:
        step = solve(regular, gradient)
        length = jnp.sqrt(jnp.maximum(gradient @ step, 0.0))
        return vector - gain * step / jnp.maximum(1.0, length), length
    end = proximal.minimize_quadratic(
        regular / gain, gradient - regular @ vector / gain, vector, strengths
    )
    length = jnp.sqrt((end - vector) @ regular @ (end - vector)) / gain
    return jnp.where(length > 1, vector + (end - vector) / length, end), length  # a zero stays one
