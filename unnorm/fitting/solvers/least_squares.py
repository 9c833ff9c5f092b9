"""Losses a + r'r/2 with a and r affine in the parameters: found out by trying, and minimised by one
linear solve.

The normal matrix is H = mean R'R with R = ∂r/∂θ. Where r is affine in the row as well (a Gaussian),
H depends on the rows' mean and covariance alone: d + 1 points that have the same stand for all
rows. The rows check the solution.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree

from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.objectives.auxiliary_noise import event_size
from unnorm.fitting.solvers.newton import NEWTON_LIMIT, Minimum, lasso_strengths, parameters_of
from unnorm.fitting.solvers.unbounded_parameters import back_inside, relaxed
from unnorm.numerics import proximal
from unnorm.numerics.diagonal_scaling import scaled
from unnorm.supports import PyTreeSupport

_TRIALS = 6  # random directions in which the loss is tried
_ENTRIES, _MOST = 2**23, 2**26  # of ∂r/∂θ at once; at all the points
_LARGEST, _CORRECTIONS = 4000, 3  # parameters of a lasso by H; solves of one
_REFINEMENTS = (
    10  # of a solution: each gains the digits of one solve, and a start may be off by 10^80
)


class Rows(NamedTuple):
    events: dict
    weights: jax.Array  # of mean 1


class Quadratic(NamedTuple):
    """A loss by its gradient at a start and its Hessian."""

    start: jax.Array
    gradient: jax.Array
    normal: jax.Array


def solved(
    objective, density, state: ObjectiveState, events: dict, known: Quadratic | None = None
) -> Minimum | None:
    """The minimum by a linear solve (the lasso: by sweeps and solves); None where the loss is not
    of that kind or the solution fails its check.
    """
    if state.penalty is not None:
        return _sparse(objective, density, state, events, known)
    rows = _rows(objective, density, state, events)
    if rows is not None:
        return _solved(objective, density, state, rows)
    without_bounds = relaxed(density)
    rows = None if without_bounds is None else _rows(objective, without_bounds, state, events)
    found = None if rows is None else _solved(objective, without_bounds, state, rows)
    return found and _within_bounds(density, without_bounds, state, found)


def _solved(objective, density, state: ObjectiveState, rows: Rows) -> Minimum | None:
    points = _points_for(density, rows)
    found = None if points is None else _minimum(objective, density, state, points, rows)
    if found is None and parameters_of(density, state)[0].size <= NEWTON_LIMIT:
        found = _minimum(objective, density, state, rows, rows)
    return found


def _within_bounds(
    density, without_bounds, state: ObjectiveState, found: Minimum
) -> Minimum | None:
    """A minimum found without bounds, in the coordinates of the bounded parameters; None where it
    breaks them.
    """
    free, nuisance = parameters_of(without_bounds, state)[1](found.vector)
    inside = back_inside(density, without_bounds.at(free).parameters)
    if inside is None:
        return None
    return found._replace(vector=parameters_of(inside, state._replace(nuisance=nuisance))[0])


def quadratic(objective, density, state: ObjectiveState, events: dict) -> Quadratic | None:
    """The loss as a quadratic function of all that is estimated; None where it is none or H is too
    large.
    """
    rows = _rows(objective, density, state, events)
    if rows is None or parameters_of(density, state)[0].size > _LARGEST:
        return None
    points = _points_for(density, rows)
    normal = _normal_by_rows if points is None else _normal_by_points
    return Quadratic(
        parameters_of(density, state)[0],
        *normal(objective, density, state, rows if points is None else points),
    )


def _sparse(
    objective, density, state: ObjectiveState, events: dict, known: Quadratic | None
) -> Minimum | None:
    """The lasso of a quadratic loss; the rows tell the slopes at what is found, for one more
    correction.
    """
    if state.penalty.ridge or state.penalty.priors:
        return None
    held = known or quadratic(objective, density, state, events)
    if held is None:
        return None
    rows, x = _all(events, state.weights), parameters_of(density, state)[0]
    strengths, slope = lasso_strengths(density, state), held.gradient - held.normal @ held.start
    for _ in range(_CORRECTIONS):
        x = proximal.of_quadratic(held.normal, slope, x, strengths)
        smooth, gradient = _loss_and_gradient(objective, density, state, rows, rows, x)
        left = jnp.sum(
            proximal.least_slopes(x, gradient, strengths) ** 2 / jnp.diagonal(held.normal)
        )
        loss = smooth + strengths @ jnp.abs(x)
        if bool(left <= _tolerance(x) * jnp.abs(loss)):
            return Minimum(x, loss, left, jnp.asarray(1), loss[None])
        slope = gradient - held.normal @ x
    return None


def _all(events: dict, weights: jax.Array | None) -> Rows:
    return Rows(
        events,
        jnp.ones(len(next(iter(events.values())))) if weights is None else jnp.asarray(weights),
    )


def _rows(objective, density, state: ObjectiveState, events: dict) -> Rows | None:
    """The rows, if the loss is of the kind that is solved here."""
    plain = not any(support.discrete for support in density.variables.values())
    trees = any(isinstance(support, PyTreeSupport) for support in density.supports.values())
    if not plain or trees or not bool(_is_affine(objective, density, state, _some(events))):
        return None
    return _all(events, state.weights)


def _some(events: dict) -> dict:
    rows = len(next(iter(events.values())))
    chosen = np.unique(np.linspace(0, rows - 1, 5).astype(int))
    return {name: value[chosen] for name, value in events.items()}


def _terms_at(
    objective, density, state: ObjectiveState, event: dict, vector: jax.Array
) -> tuple[jax.Array, jax.Array]:
    free, _ = parameters_of(density, state)[1](vector)
    return objective.terms(density.at(free), state, event)


def _points_for(density, rows: Rows) -> Rows | None:
    """d + 1 events with the rows' mean and covariance, which say as much as the rows where the
    score is affine.
    """
    everywhere = all(support.score_matching == "plain" for support in density.variables.values())
    size, parameters = event_size(density), sum(np.size(value) for value in density.free().values())
    if (
        not everywhere
        or density.covariates
        or len(rows.weights) <= size + 1
        or (size + 1) * size * parameters > _MOST
    ):
        return None
    return Rows(_equal_in_moments(rows), jnp.ones(size + 1, rows.weights.dtype))


@jax.jit
def _equal_in_moments(rows: Rows) -> dict:
    unravel = ravel_pytree(jax.tree.map(lambda value: value[0], rows.events))[1]
    flat = jnp.concatenate(
        [value.reshape(len(value), -1) for value in jax.tree.leaves(rows.events)], 1
    )
    mean, size = rows.weights @ flat / len(flat), flat.shape[1]
    centred = jnp.sqrt(rows.weights)[:, None] * (flat - mean)
    inside, units = scaled(centred.T @ centred / len(flat))
    variances, axes = jnp.linalg.eigh(inside)
    # the corners of a regular simplex around 0 have mean 0 and equal variances
    corners = jnp.asarray(np.sqrt(size + 1) * scipy.linalg.helmert(size + 1).T, flat.dtype)
    roots = units[:, None] * axes * jnp.sqrt(jnp.maximum(variances, 0.0))
    return jax.vmap(unravel)(mean + corners @ roots.T)


@jax.jit
def _is_affine(objective, density, state: ObjectiveState, events: dict) -> jax.Array:
    """Whether t(θ + 2u) + 2 t(θ − u) − 3 t(θ) vanishes for a and every entry of r, at random u of
    two lengths.
    """
    start = parameters_of(density, state)[0]
    lengths = jnp.where(jnp.arange(_TRIALS) % 2 == 0, 1.0, 10.0).astype(start.dtype)
    steps = lengths[:, None] * jax.random.normal(
        jax.random.key(0), (_TRIALS, start.size), start.dtype
    )
    places, signs = (
        jnp.array([2.0, -1.0, 0.0], start.dtype),
        jnp.array([1.0, 2.0, -3.0], start.dtype),
    )

    def holds(event, step):
        def at(place):
            return ravel_pytree(_terms_at(objective, density, state, event, start + place * step))[
                0
            ]

        parts = jax.lax.map(at, places) * signs[:, None]
        # entry by entry, for each has its own units; written so that a NaN does not hold
        largest = jnp.max(jnp.abs(parts), 0)
        return jnp.all(jnp.abs(parts.sum(0)) <= jnp.sqrt(jnp.finfo(start.dtype).eps) * largest)

    return jnp.all(
        jax.lax.map(lambda step: jax.vmap(lambda event: holds(event, step))(events), steps)
    )


def _minimum(objective, density, state: ObjectiveState, points: Rows, rows: Rows) -> Minimum | None:
    """Solve on the points, then check the gradient on the rows and take what it says as
    corrections.
    """
    normal = _normal_by_rows if points is rows else _normal_by_points
    vector, factor = _solution(
        parameters_of(density, state)[0], *normal(objective, density, state, points)
    )
    # Points that stand for the rows give the solution at once, or the score is not affine and they
    # do not.
    for _ in range(_REFINEMENTS if points is rows else 2):
        loss, gradient = _loss_and_gradient(objective, density, state, points, rows, vector)
        correction = jax.scipy.linalg.cho_solve((factor, True), gradient)
        decrement, vector = gradient @ correction, vector - correction
        if bool(decrement <= _tolerance(vector) * jnp.abs(loss)):
            return Minimum(vector, loss, decrement, jnp.asarray(1), loss[None])
        if not bool(jnp.isfinite(decrement)):  # there is no Cholesky factor
            return None
    return None


def _tolerance(vector: jax.Array) -> float:
    """Of g'H⁻¹g over the loss, whose units it has: those of 1/x²."""
    return 1e-18 if vector.dtype == jnp.float64 else 1e-9


@jax.jit
def _solution(
    start: jax.Array, gradient: jax.Array, normal: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """θ − H⁻¹ ∇loss, exact for a quadratic loss, and the Cholesky factor of H."""
    factor = jnp.linalg.cholesky(normal)
    return start - jax.scipy.linalg.cho_solve((factor, True), gradient), factor


def _derivatives(
    objective, density, state: ObjectiveState, event: dict
) -> tuple[jax.Array, jax.Array]:
    """∂(a + r'r/2)/∂θ and ∂r/∂θ of one row."""
    start = parameters_of(density, state)[0]

    def terms(vector):
        return _terms_at(objective, density, state, event, vector)

    slope, jacobian = jax.jacrev(terms)(start)
    return slope + terms(start)[1] @ jacobian, jacobian


@jax.jit
def _normal_by_rows(
    objective, density, state: ObjectiveState, rows: Rows
) -> tuple[jax.Array, jax.Array]:
    """The mean gradient and H = mean R'R, a few rows at a time."""
    start, count = parameters_of(density, state)[0], len(rows.weights)
    at_once = min(count, max(1, _ENTRIES // (start.size * event_size(density))))

    def add(total, part):
        place = part * at_once + jnp.arange(at_once)
        events, weights = jax.tree.map(lambda value: value[jnp.minimum(place, count - 1)], rows)
        weights = jnp.where(place < count, weights, 0.0)
        gradients, jacobians = jax.vmap(
            lambda event: _derivatives(objective, density, state, event)
        )(events)
        flat = (jnp.sqrt(weights)[:, None, None] * jacobians).reshape(-1, start.size)
        return (total[0] + weights @ gradients, total[1] + flat.T @ flat), None

    nothing = jnp.zeros_like(start), jnp.zeros((start.size, start.size), start.dtype)
    (gradient, normal), _ = jax.lax.scan(add, nothing, jnp.arange(-(-count // at_once)))
    return gradient / count, normal / count


def _normal_by_points(
    objective, density, state: ObjectiveState, points: Rows
) -> tuple[jax.Array, jax.Array]:
    """The same for few points; of R, whose rows depend on few parameters each, only what is not 0
    is multiplied.
    """
    gradient, jacobians, active = _at_points(objective, density, state, points)
    most = int(active.sum(1).max())
    return gradient, _gram(
        jacobians, jax.lax.top_k(active.astype(jacobians.dtype), max(most, 1))[1]
    )


@jax.jit
def _at_points(objective, density, state: ObjectiveState, points: Rows):
    gradients, jacobians = jax.vmap(lambda event: _derivatives(objective, density, state, event))(
        points.events
    )
    return gradients.mean(0), jacobians, jnp.any(jacobians != 0, 0)


@jax.jit
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


@jax.jit
def _loss_and_gradient(
    objective, density, state: ObjectiveState, points: Rows, rows: Rows, vector: jax.Array
):
    """The mean loss over the rows; a, whose mean over the points is that over the rows, is taken at
    the points.
    """

    def loss(vector):
        affine = jax.vmap(lambda event: _terms_at(objective, density, state, event, vector)[0])(
            points.events
        )
        residuals = jax.vmap(lambda event: _terms_at(objective, density, state, event, vector)[1])(
            rows.events
        )
        squares = rows.weights @ jnp.sum(residuals**2, 1)
        return points.weights @ affine / len(affine) + 0.5 * squares / len(residuals)

    return jax.value_and_grad(loss)(vector)
