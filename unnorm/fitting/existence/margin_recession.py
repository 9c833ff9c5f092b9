"""Directions of recession of a loss whose margins are affine in the parameters, and its limit."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import make_key
from unnorm.fitting.base import HasMargins
from unnorm.fitting.existence.recession_directions import Cone, cone
from unnorm.fitting.loss import Loss, scores_and_curvature


@dataclass(frozen=True)
class MarginCriteria:
    """Tolerances of the margins, and of Newton's method in the limit."""

    # The gradient has a weight of 6e-6 at this margin: distinguishable from 0 at a minimum.
    wide: float = 12.0
    max_entries: int = 2**24  # of the matrix of margins
    trials: int = 4  # random directions in which margins are tested to be affine
    affine: float = 1e-7  # relative curvature of an affine margin
    open_margin: float = 30.0  # leaves a weight of 1e-13
    steps: int = 50  # of Newton's method
    decrement: float = 1e-22  # g'H⁻¹g at which Newton's method stops
    # Increments of the margins over which the loss must not increase.
    increments: tuple[float, ...] = (1.0, 8.0, 64.0)


CRITERIA = MarginCriteria()


class MarginRecession(NamedTuple):
    """The margins A θ + b of an objective, and their directions of recession."""

    cone: Cone
    matrix: np.ndarray
    offsets: np.ndarray


def margin_recession(loss: Loss, is_minimum: bool = False) -> MarginRecession | None:
    """Return the cone of recession; None without margins, or where they are not affine.

    Args:
        loss: the loss, at any parameters.
        is_minimum: whether these are a minimum: there margins of positive weight do not change in
            any direction of recession, which makes the linear programme small.
    """
    if not isinstance(loss.objective, HasMargins):
        return None
    size, weighted = loss.vector.size, _with_positive_weight(loss)
    margins = _margins(weighted)
    if margins is None:
        return None
    margins = np.asarray(margins)
    if is_minimum and not (np.abs(margins) > CRITERIA.wide).any():
        return None
    if margins.size * size > CRITERIA.max_entries:
        return None
    start, values, matrix, affine = map(np.asarray, _slopes(weighted))
    finite = np.isfinite(values)  # a state of density 0 puts no condition on the parameters
    matrix = matrix[:, finite].T
    if not affine[finite].all() or not np.isfinite(matrix).all():
        return None
    tight = (np.abs(margins[finite]) <= CRITERIA.wide) & is_minimum
    return MarginRecession(cone(matrix, tight), matrix, values[finite] - matrix @ start)


def _with_positive_weight(loss: Loss) -> Loss:
    """Return the loss on the rows whose weight is not 0."""
    state = loss.state
    if state.weights is None or bool(np.all(np.asarray(state.weights) > 0)):
        return loss
    kept = np.asarray(state.weights) > 0
    rows = jax.tree.map(lambda leaf: leaf[kept], state.per_row)
    return loss._replace(
        events={name: value[kept] for name, value in loss.events.items()},
        state=state._replace(per_row=rows, weights=state.weights[kept]),
    )


@compiled
def _margins(loss: Loss) -> jax.Array | None:
    return loss.objective.margins(loss.density, loss.state, loss.events)


@compiled
def _slopes(loss: Loss) -> tuple[jax.Array, ...]:
    """Return θ, the margins there, their derivatives (p, m), and whether each is affine.

    An affine margin has m(θ + 2u) + 2 m(θ − u) = 3 m(θ). Coordinates of θ that are far from 0 are
    set to ±1: the slope is the same, and free of rounding.
    """
    vector = loss.vector
    start = jnp.where(jnp.abs(vector) < CRITERIA.wide, vector, jnp.where(vector < 0, -1.0, 1.0))

    def at(vector):
        there = loss.at(vector)
        return there.objective.margins(there.density, there.state, there.events)

    def is_affine(step):
        parts = jax.lax.map(at, start + jnp.array([[2.0], [-1.0], [0.0]], start.dtype) * step)
        parts = parts * jnp.array([[1.0], [2.0], [-3.0]], start.dtype)
        return jnp.abs(parts.sum(0)) <= CRITERIA.affine * (1 + jnp.max(jnp.abs(parts), 0))

    lengths = jnp.where(jnp.arange(CRITERIA.trials) % 2 == 0, 1.0, 10.0).astype(start.dtype)
    steps = lengths[:, None] * jax.random.normal(
        make_key(0), (CRITERIA.trials, start.size), start.dtype
    )
    values, push = jax.linearize(at, start)
    matrix = jax.lax.map(push, jnp.eye(start.size, dtype=start.dtype), batch_size=8)
    return start, values, matrix, jnp.all(jax.lax.map(is_affine, steps), 0)


def point_near_limit(loss: Loss, found: MarginRecession) -> np.ndarray:
    """Return parameters with open margins, at which the determined combinations are optimal."""
    dtype, cone = loss.vector.dtype, found.cone
    basis = cone.limit @ np.linalg.inv(cone.limit.T @ cone.limit)
    at = basis @ (cone.limit.T @ np.nan_to_num(np.asarray(loss.vector)))
    slopes = (found.matrix @ cone.direction)[cone.separated]
    margins = (found.matrix @ at + found.offsets)[cone.separated]
    at = at + cone.direction * max(0.0, np.max((CRITERIA.open_margin - margins) / slopes))
    for _ in range(CRITERIA.steps if basis.shape[1] else 0):
        psi, curvature = scores_and_curvature(loss.at(jnp.asarray(at, dtype)))
        gradient = basis.T @ np.asarray(psi).mean(0)
        curvature = basis.T @ np.asarray(curvature) @ basis
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        if not np.isfinite(step).all():
            break
        at = at - basis @ step / max(1.0, np.abs(step).max())
        if gradient @ step < CRITERIA.decrement:
            break
    return at


def decreases_along_cone(loss: Loss, found: MarginRecession, point: np.ndarray) -> bool:
    """Return whether the finite values of the loss never increase along the direction."""
    dtype, step = loss.vector.dtype, found.cone.direction
    step = step / (found.matrix @ step)[found.cone.separated].max()
    points = [jnp.asarray(point + by * step, dtype) for by in (0.0, *CRITERIA.increments)]
    values = np.asarray(_losses_at(loss, jnp.stack(points)))
    values = values[np.isfinite(values)]
    return len(values) < 2 or bool(np.all(values[1:] <= values[0] + 1e-7 * (1 + abs(values[0]))))


@compiled
def _losses_at(loss: Loss, vectors: jax.Array) -> jax.Array:
    return jax.lax.map(loss.penalized, vectors)


__all__ = ["MarginRecession", "decreases_along_cone", "margin_recession", "point_near_limit"]
