"""Losses a + r'r/2 with a and r affine in the parameters: detected by trials, and minimized by one
linear solve.

The normal matrix is H = mean R'R with R = ∂r/∂θ. Where r is affine in the row as well (a Gaussian),
H depends on the rows' mean and covariance alone: d + 1 points that have the same stand for all
rows. The rows check the solution.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import make_key
from unnorm.fitting.loss import Loss
from unnorm.fitting.solvers.normal_equations import (
    DEFAULTS,
    Rows,
    loss_and_gradient,
    normal_by_points,
    normal_by_rows,
    points_for,
    terms_at,
)
from unnorm.fitting.solvers.unbounded_parameters import within_bounds, without_bounds
from unnorm.numerics import proximal
from unnorm.numerics.newton import Minimum
from unnorm.supports.base import has_network


class Quadratic(NamedTuple):
    """A loss by its gradient at a start and its Hessian."""

    start: jax.Array
    gradient: jax.Array
    normal: jax.Array


def closed_form_minimum(loss: Loss, known: Quadratic | None = None) -> Minimum | None:
    """The minimum by a linear solve (the lasso: by sweeps and solves); None where the loss is not
    quadratic or the solution fails its check.
    """
    if loss.state.penalty is not None:
        return _minimum_with_lasso(loss, known)
    if _is_quadratic(loss):
        return _minimum_by_points(loss)
    density = without_bounds(loss.density)
    unbounded = None if density is None else loss._replace(density=density)
    if unbounded is None or not _is_quadratic(unbounded):
        return None
    found = _minimum_by_points(unbounded)
    return found and _within_bounds(loss, unbounded.at(found.vector), found)


def _minimum_by_points(loss: Loss) -> Minimum | None:
    rows, model = _rows_of(loss), loss._replace(events={})
    points = points_for(loss.density, rows)
    found = None if points is None else _minimum(model, points, rows)
    if found is None and loss.has_few_parameters():
        found = _minimum(model, rows, rows)
    return found


def _within_bounds(loss: Loss, unbounded: Loss, found: Minimum) -> Minimum | None:
    """A minimum found without bounds, in the coordinates of the bounded parameters; None where it
    breaks them.
    """
    inside = within_bounds(loss.density, unbounded.density.parameters)
    if inside is None:
        return None
    return found._replace(vector=unbounded._replace(density=inside).vector)


def quadratic(loss: Loss) -> Quadratic | None:
    """The loss as a quadratic function of all that is estimated; None where it is not one or H is
    too large.
    """
    if not _is_quadratic(loss) or loss.vector.size > DEFAULTS.lasso_parameters:
        return None
    rows, model = _rows_of(loss), loss._replace(events={})
    points = points_for(loss.density, rows)
    terms = normal_by_rows(model, rows) if points is None else normal_by_points(model, points)
    return Quadratic(loss.vector, *terms)


def _minimum_with_lasso(loss: Loss, known: Quadratic | None) -> Minimum | None:
    """The lasso of a quadratic loss; the rows give the slopes at what is found, for one more
    correction.
    """
    state, x, strengths = loss.state, loss.vector, loss.lasso
    if state.penalty.ridge or state.penalty.priors:
        return None
    held = known or quadratic(loss)
    if held is None:
        return None
    assert strengths is not None
    rows, model = _rows_of(loss), loss._replace(events={})
    slope = held.gradient - held.normal @ held.start
    for _ in range(DEFAULTS.lasso_corrections):
        x = proximal.minimize_quadratic(held.normal, slope, x, strengths)
        smooth, gradient = loss_and_gradient(model, rows, rows, x)
        slopes = proximal.minimum_norm_subgradient(x, gradient, strengths)
        left = jnp.sum(slopes**2 / jnp.diagonal(held.normal))
        value = smooth + strengths @ jnp.abs(x)
        if bool(left <= _tolerance(x) * jnp.abs(value)):
            return Minimum(x, value, left, jnp.asarray(1), value[None])
        slope = gradient - held.normal @ x
    return None


def _rows_of(loss: Loss) -> Rows:
    weights: Any = loss.state.weights
    count = len(next(iter(loss.events.values())))
    weights = np.ones(count, jnp.result_type(float)) if weights is None else weights
    return Rows(loss.events, weights)


def _is_quadratic(loss: Loss) -> bool:
    """Whether the loss is of the kind that is solved here, as far as a few rows show."""
    density, rows = loss.density, len(next(iter(loss.events.values())))
    plain = not any(support.discrete for support in density.variables.values())
    trees = has_network(density.supports)
    if not plain or trees:
        return False
    chosen = np.unique(np.linspace(0, rows - 1, 5).astype(int))
    few = {name: np.asarray(value)[chosen] for name, value in loss.events.items()}
    return bool(_is_affine(loss._replace(events=few)))


@compiled
def _is_affine(loss: Loss) -> jax.Array:
    """Whether t(θ + 2u) + 2 t(θ − u) − 3 t(θ) vanishes for a and every entry of r, at random u of
    two lengths.
    """
    start = loss.vector
    lengths = jnp.where(jnp.arange(DEFAULTS.trials) % 2 == 0, 1.0, 10.0).astype(start.dtype)
    steps = lengths[:, None] * jax.random.normal(
        make_key(0), (DEFAULTS.trials, start.size), start.dtype
    )
    places, signs = (
        jnp.array([2.0, -1.0, 0.0], start.dtype),
        jnp.array([1.0, 2.0, -3.0], start.dtype),
    )

    def holds(event, step):
        def at(place):
            return ravel_pytree(terms_at(loss, event, start + place * step))[0]

        parts = jax.lax.map(at, places) * signs[:, None]
        # entry by entry, for each has its own units; written so that a NaN does not hold
        largest = jnp.max(jnp.abs(parts), 0)
        return jnp.all(jnp.abs(parts.sum(0)) <= jnp.sqrt(jnp.finfo(start.dtype).eps) * largest)

    return jnp.all(
        jax.lax.map(lambda step: jax.vmap(lambda event: holds(event, step))(loss.events), steps)
    )


def _minimum(loss: Loss, points: Rows, rows: Rows) -> Minimum | None:
    """Solve on the points, then check the gradient on the rows and take it as a correction."""
    normal = normal_by_rows if points is rows else normal_by_points
    vector, factor = _solution(loss.vector, *normal(loss, points))
    # Points that stand for the rows give the solution at once, or the score is not affine and they
    # do not.
    for _ in range(DEFAULTS.refinements if points is rows else 2):
        value, decrement, vector = _correct(loss, points, rows, vector, factor)
        if decrement <= _tolerance(vector) * np.abs(value):
            return Minimum(vector, value, decrement, np.asarray(1), np.asarray(value)[None])
        if not np.isfinite(decrement):  # there is no Cholesky factor
            return None
    return None


@compiled
def _correct(
    loss: Loss, points: Rows, rows: Rows, vector: jax.Array, factor: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The loss at a vector, the decrement, and the vector less H⁻¹ times the gradient."""
    value, gradient = loss_and_gradient(loss, points, rows, vector)
    correction = jax.scipy.linalg.cho_solve((factor, True), gradient)
    return value, gradient @ correction, vector - correction


def _tolerance(vector: jax.Array) -> float:
    """Of g'H⁻¹g over the loss, whose units it has: those of 1/x²."""
    return 1e-18 if vector.dtype == jnp.float64 else 1e-9


@compiled
def _solution(
    start: jax.Array, gradient: jax.Array, normal: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """θ − H⁻¹ ∇loss, exact for a quadratic loss, and the Cholesky factor of H."""
    factor = jnp.linalg.cholesky(normal)
    return start - jax.scipy.linalg.cho_solve((factor, True), gradient), factor
