"""Stochastic objectives: approach, then average iterates until their Monte Carlo error is small
against the standard error.

Robbins-Monro steps with the negatives' score covariance as metric (Adam where there are too many
parameters for one), and Polyak-Ruppert averaging; the averaged iterate's error comes from
batch means.

References: Polyak and Juditsky (1992), doi:10.1137/0330046.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import fold_in, split_keys
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.loss import Loss, NewtonOptions, lasso_strengths
from unnorm.fitting.penalties.terms import slope_and_curvature
from unnorm.fitting.row_normalizers import latent_variables
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import add_ridge, inverse, solve


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


class Average(NamedTuple):
    """What a stochastic fit ends with."""

    vector: np.ndarray
    state: ObjectiveState
    error: np.ndarray  # Monte Carlo standard error of the averaged vector
    converged: bool
    approached: bool
    steps: int
    history: np.ndarray  # distance to the last iterate in the metric, step by step
    acceptance: float
    errors: np.ndarray | None  # the standard errors against which `error` was held


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
def run(
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


class _Run:
    """The walk, chunk by chunk, and its lengths."""

    def __init__(self, loss: Loss, key: jax.Array, shown, batch_size: int | None) -> None:
        self.loss, self.key, self.shown, self.batch_size = loss, key, shown, batch_size
        self.walk, self.done = begin(loss.density, loss.state), 0
        self.lengths: list[np.ndarray] = []

    def advance(self, gain: float) -> tuple[np.ndarray, np.ndarray, float]:
        """One chunk: its vectors, gradients and mean acceptance rate."""
        objective, density, _, events = self.loss
        self.walk, (vectors, gradients, lengths, rates) = run(
            objective, density, events, self.walk, self.key, gain, self.done,
            steps=DEFAULTS.chunk, batch_size=self.batch_size,
        )  # fmt: skip
        self.done += DEFAULTS.chunk
        self.lengths.append(np.asarray(lengths))
        objective.refuse_nan(density, self.walk.state)
        _refuse_infinite(objective, density, vectors)
        self.shown.step(DEFAULTS.chunk, f"step {self.done}")
        return np.asarray(vectors), np.asarray(gradients), float(np.mean(rates))

    def approach(self, steps: int | None, errors_at: Callable) -> bool:
        """Walk until the iterates' mean stops moving; return whether it did."""
        rows = len(next(iter(self.loss.events.values())))
        is_latent = bool(latent_variables(self.loss.density, self.loss.events))
        approached, before = False, None
        while not approached and self.done < (
            DEFAULTS.approach_steps if steps is None else steps / 2
        ):
            vectors, *_ = self.advance(DEFAULTS.approach_gain)
            middle = vectors[DEFAULTS.chunk // 2 :].mean(0)
            if before is not None:
                approached = _near(middle - before, np.asarray(self.walk.metric), rows)
            if before is not None and not approached and is_latent:
                # The metric is that of rows whose latent variables are known: these data hold much
                # less information.
                wide = errors_at(middle, self.walk.state)
                approached = wide is not None and bool(np.all(np.abs(middle - before) <= wide))
            before = middle
        return approached


def average_iterates(
    loss: Loss, key: jax.Array, errors_at: Callable, shown, steps: int | None,
    batch_size: int | None,
) -> Average:  # fmt: skip
    """Approach, then average until the Monte Carlo error is small against `errors_at(vector,
    state)`, the standard errors.
    """
    if steps is not None:
        loss = loss._replace(state=loss.objective.with_run_length(loss.state, steps))
    run, strengths = _Run(loss, key, shown, batch_size), loss.lasso
    approached = run.approach(steps, errors_at)
    budget = DEFAULTS.average_steps if steps is None else max(steps // 2, DEFAULTS.chunk)
    kept, errors, converged, last = [], None, False, run.done + budget
    while not converged and run.done < last:
        vectors, gradients, acceptance = run.advance(DEFAULTS.average_gain)
        if strengths is not None:  # where the loss alone, as these steps see it, has its minimum
            vectors = (
                vectors - np.asarray(solve(add_ridge(run.walk.metric), jnp.asarray(gradients.T))).T
            )
        kept.append(vectors)
        if len(kept) % DEFAULTS.chunks and run.done < last:
            continue
        average, error = _average(np.concatenate(kept))
        if strengths is not None:
            average, error = _shrunk(average, error, add_ridge(run.walk.metric), strengths)
        errors = errors_at(average, run.walk.state) if errors is None else errors
        worst = np.inf if errors is None else np.max(error / errors)
        converged = bool(len(kept) >= 2 * DEFAULTS.chunks and worst <= DEFAULTS.relative_error)
    return Average(
        average, run.walk.state, error, converged, approached, run.done,
        np.concatenate(run.lengths), acceptance, errors,
    )  # fmt: skip


def _near(change: np.ndarray, metric: np.ndarray, rows: int) -> bool:
    """Whether the iterates' mean has stopped moving, against the standard error that the metric
    stands for.
    """
    if not metric.size:
        return False
    regular = add_ridge(metric)  # type: ignore[arg-type]
    variances = np.diagonal(inverse(np.asarray(regular))) / rows
    return bool(np.all(np.abs(change) <= np.sqrt(variances)))


def _average(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the iterates and its error by batch means, corrected for the correlation of
    neighbouring batches.
    """
    batches = (
        vectors[len(vectors) % DEFAULTS.batches :]
        .reshape(DEFAULTS.batches, -1, vectors.shape[1])
        .mean(1)
    )
    centred = batches - batches.mean(0)
    spread = np.sqrt((centred**2).sum(0) / (DEFAULTS.batches - 1) / DEFAULTS.batches)
    correlation = (centred[1:] * centred[:-1]).sum(0) / np.maximum((centred**2).sum(0), 1e-300)
    inflation = np.clip(correlation, 0.0, 0.95)
    return vectors.mean(0), spread * np.sqrt((1 + inflation) / (1 - inflation))


def _shrunk(
    average: np.ndarray, error: np.ndarray, metric, strengths
) -> tuple[np.ndarray, np.ndarray]:
    """The lasso around an average: iterates themselves leave zero with every noise, on either
    side.
    """
    found = np.asarray(proximal.minimize_quadratic(metric, -metric @ average, average, strengths))
    return found, np.where(found == 0, 0.0, error)


def _refuse_infinite(objective, density, vectors) -> None:
    if not np.isfinite(np.asarray(vectors)).all():
        raise ValueError(
            f"The parameters of {density.name} became NaN or infinite under "
            f"{type(objective).__name__}; expected finite numbers; give a smaller step_size to "
            "its kernel, or a start= nearer to the data."
        )
