"""Losses a + r'r/2 with a and r affine in the parameters: detected by trials, and minimized by one
linear solve.

The normal matrix is H = mean R'R with R = ∂r/∂θ. Where r is affine in the row as well (a Gaussian),
H depends on the rows' mean and covariance alone: d + 1 points that have the same stand for all
rows. The rows check the solution.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.random_keys import make_key
from unnorm.fitting.data import event_size
from unnorm.fitting.loss import Loss
from unnorm.fitting.solvers.unbounded_parameters import within_bounds, without_bounds
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import scale_by_diagonal
from unnorm.numerics.newton import Minimum
from unnorm.supports import PyTreeSupport


@dataclass(frozen=True)
class LeastSquaresOptions:
    """Budgets of the linear solve.

    Attributes:
        trials: random directions in which the loss is tried for being quadratic.
        entries: of ∂r/∂θ held at once.
        point_entries: of ∂r/∂θ at all points that stand for the rows.
        lasso_parameters: of a lasso that is solved by its Hessian, at most.
        lasso_corrections: solves of one lasso.
        refinements: of a solution. Each gains the digits of one solve, and a start may be off by
            10^80.
    """

    trials: int = 6
    entries: int = 2**23
    point_entries: int = 2**26
    lasso_parameters: int = 4000
    lasso_corrections: int = 3
    refinements: int = 10


DEFAULTS = LeastSquaresOptions()


class Rows(NamedTuple):
    """Rows of data and their weights."""

    events: dict
    weights: jax.Array | np.ndarray  # of mean 1


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
    points = _points_for(loss.density, rows)
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
    points = _points_for(loss.density, rows)
    terms = _normal_by_rows(model, rows) if points is None else _normal_by_points(model, points)
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
        smooth, gradient = _loss_and_gradient(model, rows, rows, x)
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
    trees = any(isinstance(support, PyTreeSupport) for support in density.supports.values())
    if not plain or trees:
        return False
    chosen = np.unique(np.linspace(0, rows - 1, 5).astype(int))
    few = {name: np.asarray(value)[chosen] for name, value in loss.events.items()}
    return bool(_is_affine(loss._replace(events=few)))


def _terms_at(loss: Loss, event: dict, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    density = loss.density.at(loss.free_at(vector))
    return loss.objective.terms(density, loss.state, event)


def _points_for(density, rows: Rows) -> Rows | None:
    """d + 1 events with the rows' mean and covariance, which say as much as the rows where the
    score is affine.
    """
    everywhere = all(support.score_matching == "plain" for support in density.variables.values())
    size, parameters = event_size(density), sum(np.size(v) for v in density.free().values())
    if (
        not everywhere
        or density.covariates
        or len(rows.weights) <= size + 1
        or (size + 1) * size * parameters > DEFAULTS.point_entries
    ):
        return None
    return Rows(_equal_in_moments(rows), np.ones(size + 1, rows.weights.dtype))


@compiled
def _equal_in_moments(rows: Rows) -> dict:
    unravel = ravel_pytree(jax.tree.map(lambda value: value[0], rows.events))[1]
    flat = jnp.concatenate(
        [value.reshape(len(value), -1) for value in jax.tree.leaves(rows.events)], 1
    )
    mean, size = rows.weights @ flat / len(flat), flat.shape[1]
    centred = jnp.sqrt(rows.weights)[:, None] * (flat - mean)
    inside, units = scale_by_diagonal(centred.T @ centred / len(flat))
    variances, axes = jnp.linalg.eigh(inside)
    # the corners of a regular simplex around 0 have mean 0 and equal variances
    corners = jnp.asarray(np.sqrt(size + 1) * scipy.linalg.helmert(size + 1).T, flat.dtype)
    roots = units[:, None] * axes * jnp.sqrt(jnp.maximum(variances, 0.0))
    return jax.vmap(unravel)(mean + corners @ roots.T)


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
            return ravel_pytree(_terms_at(loss, event, start + place * step))[0]

        parts = jax.lax.map(at, places) * signs[:, None]
        # entry by entry, for each has its own units; written so that a NaN does not hold
        largest = jnp.max(jnp.abs(parts), 0)
        return jnp.all(jnp.abs(parts.sum(0)) <= jnp.sqrt(jnp.finfo(start.dtype).eps) * largest)

    return jnp.all(
        jax.lax.map(lambda step: jax.vmap(lambda event: holds(event, step))(loss.events), steps)
    )


def _minimum(loss: Loss, points: Rows, rows: Rows) -> Minimum | None:
    """Solve on the points, then check the gradient on the rows and take it as a correction."""
    normal = _normal_by_rows if points is rows else _normal_by_points
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
    value, gradient = _loss_and_gradient(loss, points, rows, vector)
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


def _derivatives(loss: Loss, event: dict) -> tuple[jax.Array, jax.Array]:
    """∂(a + r'r/2)/∂θ and ∂r/∂θ of one row."""
    start = loss.vector

    def terms(vector):
        return _terms_at(loss, event, vector)

    slope, jacobian = jax.jacrev(terms)(start)
    return slope + terms(start)[1] @ jacobian, jacobian


@compiled
def _normal_by_rows(loss: Loss, rows: Rows) -> tuple[jax.Array, jax.Array]:
    """The mean gradient and H = mean R'R, a few rows at a time."""
    start, count = loss.vector, len(rows.weights)
    at_once = min(count, max(1, DEFAULTS.entries // (start.size * event_size(loss.density))))

    def add(total, part):
        place = part * at_once + jnp.arange(at_once)
        events, weights = jax.tree.map(lambda value: value[jnp.minimum(place, count - 1)], rows)
        weights = jnp.where(place < count, weights, 0.0)
        gradients, jacobians = jax.vmap(lambda event: _derivatives(loss, event))(events)
        flat = (jnp.sqrt(weights)[:, None, None] * jacobians).reshape(-1, start.size)
        return (total[0] + weights @ gradients, total[1] + flat.T @ flat), None

    nothing = jnp.zeros_like(start), jnp.zeros((start.size, start.size), start.dtype)
    (gradient, normal), _ = jax.lax.scan(add, nothing, jnp.arange(-(-count // at_once)))
    return gradient / count, normal / count


def _normal_by_points(loss: Loss, points: Rows) -> tuple[jax.Array, jax.Array]:
    """The same for few points; of R, whose rows depend on few parameters each, only what is not 0
    is multiplied.
    """
    gradient, jacobians, active = _at_points(loss, points)
    active = np.asarray(active)
    most = max(int(active.sum(1).max()), 1)
    return gradient, _gram(jacobians, np.argsort(~active, axis=1, kind="stable")[:, :most])


@compiled
def _at_points(loss: Loss, points: Rows):
    gradients, jacobians = jax.vmap(lambda event: _derivatives(loss, event))(points.events)
    return gradients.mean(0), jacobians, jnp.any(jacobians != 0, 0)


@compiled
def _gram(jacobians: jax.Array, columns: jax.Array) -> jax.Array:
    """mean R'R, from those columns of R that are not 0 everywhere, for every row of R."""
    chosen = jnp.take_along_axis(jacobians, columns[None], 2)
    blocks = jnp.einsum("nja,njb->jab", chosen, chosen) / len(jacobians)
    size = jacobians.shape[2]
    return (
        jnp.zeros((size, size), jacobians.dtype)
        .at[columns[:, :, None], columns[:, None, :]]
        .add(blocks)
    )


@compiled
def _loss_and_gradient(loss: Loss, points: Rows, rows: Rows, vector: jax.Array):
    """The mean loss over the rows; a, whose mean over the points is that over the rows, is taken at
    the points.
    """

    def value(vector):
        affine = jax.vmap(lambda event: _terms_at(loss, event, vector)[0])(points.events)
        residuals = jax.vmap(lambda event: _terms_at(loss, event, vector)[1])(rows.events)
        squares = rows.weights @ jnp.sum(residuals**2, 1)
        return points.weights @ affine / len(affine) + 0.5 * squares / len(residuals)

    return jax.value_and_grad(value)(vector)
