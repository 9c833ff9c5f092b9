"""Stochastic objectives: approach, then average iterates until their Monte Carlo error is small
against the standard error.

Robbins-Monro steps with the negatives' score covariance as metric (Adam where there are too many
parameters for one), and Polyak-Ruppert averaging; the averaged iterate's error comes from
batch means.

References: Polyak and Juditsky (1992), doi:10.1137/0330046.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.loss import Loss
from unnorm.fitting.solvers.robbins_monro import DEFAULTS, begin, run_steps
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import add_ridge, inverse, solve


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


class _Run:
    """The walk, chunk by chunk, and its lengths."""

    def __init__(self, loss: Loss, key: jax.Array, shown, batch_size: int | None) -> None:
        self.loss, self.key, self.shown, self.batch_size = loss, key, shown, batch_size
        self.walk, self.done = begin(loss.density, loss.state), 0
        self.lengths: list[np.ndarray] = []

    def advance(self, gain: float) -> tuple[np.ndarray, np.ndarray, float]:
        """One chunk: its vectors, gradients and mean acceptance rate."""
        objective, density, _, events = self.loss
        self.walk, (vectors, gradients, lengths, rates) = run_steps(
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
        is_latent = bool(latent_variables(self.loss.density.variables, self.loss.events))
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
    run_steps, strengths = _Run(loss, key, shown, batch_size), loss.lasso
    approached = run_steps.approach(steps, errors_at)
    budget = DEFAULTS.average_steps if steps is None else max(steps // 2, DEFAULTS.chunk)
    kept, errors, converged, last = [], None, False, run_steps.done + budget
    while not converged and run_steps.done < last:
        vectors, gradients, acceptance = run_steps.advance(DEFAULTS.average_gain)
        if strengths is not None:  # where the loss alone, as these steps see it, has its minimum
            vectors = (
                vectors
                - np.asarray(solve(add_ridge(run_steps.walk.metric), jnp.asarray(gradients.T))).T
            )
        kept.append(vectors)
        if len(kept) % DEFAULTS.chunks and run_steps.done < last:
            continue
        average, error = _average(np.concatenate(kept))
        if strengths is not None:
            average, error = _shrunk(average, error, add_ridge(run_steps.walk.metric), strengths)
        errors = errors_at(average, run_steps.walk.state) if errors is None else errors
        worst = np.inf if errors is None else np.max(error / errors)
        converged = bool(len(kept) >= 2 * DEFAULTS.chunks and worst <= DEFAULTS.relative_error)
    return Average(
        average, run_steps.walk.state, error, converged, approached, run_steps.done,
        np.concatenate(run_steps.lengths), acceptance, errors,
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
