"""The normal equations of losses a + r'r/2, over the rows or few points with their moments."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.data.read import event_size
from unnorm.fitting.loss import Loss
from unnorm.numerics.diagonal_scaling import scale_by_diagonal


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


def terms_at(loss: Loss, event: dict, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a and r of one event."""
    density = loss.density.at(loss.free_at(vector))
    return loss.objective.terms(density, loss.state, event)


def points_for(density, rows: Rows) -> Rows | None:
    """d + 1 events with the rows' mean and covariance, which say as much as the rows where the
    score is affine.
    """
    everywhere = all(support.score_matching == "plain" for support in density.variables.values())
    size, parameters = (
        event_size(density.shapes()),
        sum(np.size(v) for v in density.free().values()),
    )
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


def _derivatives(loss: Loss, event: dict) -> tuple[jax.Array, jax.Array]:
    """∂(a + r'r/2)/∂θ and ∂r/∂θ of one row."""
    start = loss.vector

    def terms(vector):
        return terms_at(loss, event, vector)

    slope, jacobian = jax.jacrev(terms)(start)
    return slope + terms(start)[1] @ jacobian, jacobian


@compiled
def normal_by_rows(loss: Loss, rows: Rows) -> tuple[jax.Array, jax.Array]:
    """The mean gradient and H = mean R'R, a few rows at a time."""
    start, count = loss.vector, len(rows.weights)
    at_once = min(
        count, max(1, DEFAULTS.entries // (start.size * event_size(loss.density.shapes())))
    )

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


def normal_by_points(loss: Loss, points: Rows) -> tuple[jax.Array, jax.Array]:
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
def loss_and_gradient(
    loss: Loss, points: Rows, rows: Rows, vector: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The mean loss over the rows; a, whose mean over the points is that over the rows, is taken at
    the points.
    """

    def value(vector):
        affine = jax.vmap(lambda event: terms_at(loss, event, vector)[0])(points.events)
        residuals = jax.vmap(lambda event: terms_at(loss, event, vector)[1])(rows.events)
        squares = rows.weights @ jnp.sum(residuals**2, 1)
        return points.weights @ affine / len(affine) + 0.5 * squares / len(residuals)

    return jax.value_and_grad(value)(vector)
