"""Stochastic objectives: approach, then average iterates until their Monte Carlo error is small
against the standard error.

Robbins-Monro steps with the negatives' score covariance as metric (Adam where there are too many
parameters for one), and Polyak-Ruppert averaging; the averaged iterate's error is told by batch
means.

References: Polyak and Juditsky (1992), doi:10.1137/0330046.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from unnorm.fitting.penalties.terms import slope_and_curvature
from unnorm.fitting.row_normalizers import latent_variables
from unnorm.fitting.solvers.newton import NEWTON_LIMIT, lasso_strengths
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import inverse, ridged, solve

APPROACH_GAIN, AVERAGE_GAIN = 0.5, 0.2
CHUNK = 200  # steps in one compiled run
AVERAGED = 5  # chunks between two looks at the Monte Carlo error
APPROACH_LIMIT, AVERAGE_LIMIT = 5_000, 30_000  # steps at most
ENOUGH = 0.05  # Monte Carlo error of the average, in standard errors, at which a fit may stop
_LEARNING_RATE = 1e-2  # Adam's, times the gain
_BATCHES = 20


class Walk(NamedTuple):
    """Where a stochastic fit stands."""

    vector: jax.Array
    state: tuple
    metric: jax.Array  # the negatives' score covariance (p, p), or nothing under Adam
    moments: optax.OptState


class Settled(NamedTuple):
    """What a stochastic fit ends with."""

    vector: np.ndarray
    state: tuple
    error: np.ndarray  # Monte Carlo standard error of the averaged vector
    converged: bool
    approached: bool
    steps: int
    history: np.ndarray  # distance to the last iterate in the metric, step by step
    acceptance: float
    errors: np.ndarray | None  # the standard errors against which `error` was held


@jax.jit
def begin(density, state) -> Walk:
    vector = ravel_pytree(density.free())[0]
    metric = jnp.zeros((vector.size,) * 2) if vector.size <= NEWTON_LIMIT else jnp.zeros((0, 0))
    return Walk(vector, state, metric, optax.scale_by_adam().init(vector))


@functools.partial(jax.jit, static_argnames=("steps", "batch_size"))
def run(
    objective, density, events, walk: Walk, key, gain, first, *, steps: int, batch_size: int | None
):
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
        step_key, batch_key = jax.random.split(jax.random.fold_in(key, step))
        state, batch = walk.state, events
        if batch_size is not None:
            chosen = jax.random.choice(batch_key, rows, (batch_size,), replace=False)
            batch = jax.tree.map(lambda leaf: leaf[chosen], events)
            state = state._replace(per_row=jax.tree.map(lambda leaf: leaf[chosen], state.per_row))
        adaptation = jnp.where(gain < APPROACH_GAIN, 0.0, (1.0 + step) ** -0.5)
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
                walk.vector - gain * _LEARNING_RATE * update,
                jnp.sqrt(_LEARNING_RATE * update @ gradient),
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
    regular = ridged(metric)
    if strengths is None:
        step = solve(regular, gradient)
        length = jnp.sqrt(jnp.maximum(gradient @ step, 0.0))
        return vector - gain * step / jnp.maximum(1.0, length), length
    end = proximal.of_quadratic(
        regular / gain, gradient - regular @ vector / gain, vector, strengths
    )
    length = jnp.sqrt((end - vector) @ regular @ (end - vector)) / gain
    return jnp.where(length > 1, vector + (end - vector) / length, end), length  # a zero stays one


def settle(
    objective, density, state, events, key, standard_errors: Callable, shown, steps, batch_size
) -> Settled:
    """Approach, then average until the Monte Carlo error is small against `standard_errors(vector,
    state)`.
    """
    if steps is not None:
        state = objective.with_run_length(state, steps)
    walk, done, histories, rows = begin(density, state), 0, [], len(next(iter(events.values())))

    def advance(gain: float) -> tuple[np.ndarray, np.ndarray, float]:
        nonlocal walk, done
        walk, (vectors, gradients, lengths, rates) = run(
            objective, density, events, walk, key, gain, done, steps=CHUNK, batch_size=batch_size
        )
        done += CHUNK
        histories.append(np.asarray(lengths))
        objective.refuse_nan(density, walk.state)
        _refuse_lost(objective, density, vectors)
        shown.step(CHUNK, f"step {done}")
        return np.asarray(vectors), np.asarray(gradients), float(np.mean(rates))

    approached, before = False, None
    while not approached and done < (APPROACH_LIMIT if steps is None else steps / 2):
        vectors, *_ = advance(APPROACH_GAIN)
        middle = vectors[CHUNK // 2 :].mean(0)
        approached = before is not None and _near(middle - before, np.asarray(walk.metric), rows)
        if before is not None and not approached and latent_variables(density, events):
            # The metric is that of rows whose latent variables are known, of which these data tell
            # much less.
            wide = standard_errors(middle, walk.state)
            approached = wide is not None and bool(np.all(np.abs(middle - before) <= wide))
        before = middle
    strengths = lasso_strengths(density, state)
    kept, errors, converged, last = (
        [],
        None,
        False,
        done + (AVERAGE_LIMIT if steps is None else max(steps // 2, CHUNK)),
    )
    while not converged and done < last:
        vectors, gradients, acceptance = advance(AVERAGE_GAIN)
        if strengths is not None:  # where the loss alone, as these steps see it, has its minimum
            vectors = vectors - np.asarray(solve(ridged(walk.metric), jnp.asarray(gradients.T))).T
        kept.append(vectors)
        if len(kept) % AVERAGED and done < last:
            continue
        average, error = _average(np.concatenate(kept))
        if strengths is not None:
            average, error = _shrunk(average, error, ridged(walk.metric), strengths)
        errors = standard_errors(average, walk.state) if errors is None else errors
        worst = np.inf if errors is None else np.max(error / errors)
        converged = bool(len(kept) >= 2 * AVERAGED and worst <= ENOUGH)
    return Settled(
        average,
        walk.state,
        error,
        converged,
        approached,
        done,
        np.concatenate(histories),
        acceptance,
        errors,
    )


def _near(change: np.ndarray, metric: np.ndarray, rows: int) -> bool:
    """Whether the iterates' mean has stopped moving, against the standard error that the metric
    stands for.
    """
    if not metric.size:
        return False
    return bool(
        np.all(np.abs(change) <= np.sqrt(np.diagonal(inverse(np.asarray(ridged(metric)))) / rows))
    )


def _average(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the iterates and its error by batch means, corrected for the correlation of
    neighbouring batches.
    """
    batches = vectors[len(vectors) % _BATCHES :].reshape(_BATCHES, -1, vectors.shape[1]).mean(1)
    centred = batches - batches.mean(0)
    spread = np.sqrt((centred**2).sum(0) / (_BATCHES - 1) / _BATCHES)
    correlation = (centred[1:] * centred[:-1]).sum(0) / np.maximum((centred**2).sum(0), 1e-300)
    inflation = np.clip(correlation, 0.0, 0.95)
    return vectors.mean(0), spread * np.sqrt((1 + inflation) / (1 - inflation))


def _shrunk(
    average: np.ndarray, error: np.ndarray, metric, strengths
) -> tuple[np.ndarray, np.ndarray]:
    """The lasso around an average: iterates themselves leave zero with every noise, on either
    side.
    """
    found = np.asarray(proximal.of_quadratic(metric, -metric @ average, average, strengths))
    return found, np.where(found == 0, 0.0, error)


def _refuse_lost(objective, density, vectors) -> None:
    if not np.isfinite(np.asarray(vectors)).all():
        raise ValueError(
            f"The parameters of {density.name} became NaN or infinite under "
            f"{type(objective).__name__}; expected "
            "finite numbers; give a smaller step_size to its kernel, or start= nearer to the data."
        )
