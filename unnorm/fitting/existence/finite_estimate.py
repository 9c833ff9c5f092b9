"""Which parameters have no finite estimate, because the loss decreases without end (Haberman,
1974; Geyer, 2009).

Complete separation, or a pair of items that is never observed together, sends an optimizer far
out, where the loss is flat to rounding and a small gradient looks like a minimum. Where the margins
of the loss are affine in the parameters, the directions of recession are found exactly
(`margin_recession`). For other densities the loss is evaluated on both sides of the estimate.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.fitting.base import HasRecessionDirections, ObjectiveState, Stochastic
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.existence.margin_recession import (
    decreases_along_cone,
    margin_recession,
    point_near_limit,
)
from unnorm.fitting.existence.margins import distinct_rows
from unnorm.fitting.existence.recession_directions import Cone
from unnorm.fitting.loss import Loss, scores_and_curvature


@dataclass(frozen=True)
class ExistenceCriteria:
    """Tolerances of the test whether the loss increases on both sides of the estimate."""

    errors: float = 3.0  # distance in model-based standard errors
    flat: float = (
        0.01  # share of the increase predicted by the curvature, below which there is none
    )
    # Relative to the largest eigenvalue of the curvature with unit diagonal:
    indefinite: float = 1e-6  # eigenvalues below minus this are negative, not rounding
    floor: float = 1e-13  # smallest eigenvalue above rounding
    singular: float = 1e-11  # eigenvalues below it are 0; the covariance is refused there too
    decrement: float = 1e-16  # g'H⁻¹g of a minimum
    part: float = 1e-4  # of a direction of length 1; smaller parts are rounding
    far: float = 20.0  # of a logarithm or a logit: e^20 is 5e8


CRITERIA = ExistenceCriteria()


class DivergentParameters(NamedTuple):
    """Which coordinates of all that is estimated have no finite estimate."""

    signs: np.ndarray  # ±1 towards ±infinity, else 0
    cone: Cone | None = None
    unidentified: np.ndarray | None = None  # bool: changes in a direction of constant loss
    vector: np.ndarray | None = None  # the minimum, or a point near the limit

    def any(self) -> bool:
        """Return whether there is no finite estimate."""
        return bool(self.signs.any()) or (self.cone is not None and self.cone.any())

    def near_limit(self, loss: Loss) -> Loss:
        """Return the loss at the point near the limit, instead of where the optimizer stopped."""
        if self.vector is None:
            return loss
        return loss.at(jnp.asarray(self.vector, loss.vector.dtype))


def divergent_parameters(loss: Loss) -> DivergentParameters:
    """Return the divergent parameters at an estimate.

    They follow from the margins of the objective where these are affine, else from the loss on both
    sides of the estimate.

    References: Geyer (2009), doi:10.1214/08-EJS349 (directions of recession).
    """
    objective, density, state, events = loss
    vector = np.asarray(loss.vector)
    if state.penalty is None and isinstance(objective, HasRecessionDirections):
        known = objective.recession_directions(density, state, events)
        if known is not None and np.any(known):
            return DivergentParameters(np.asarray(known))
    psi, curvature = scores_and_curvature(loss)
    if state.penalty is None:
        found = margin_recession(loss, _is_minimum(np.asarray(psi), np.asarray(curvature)))
        if found is not None and found.cone.any():
            near, cone = point_near_limit(loss, found), found.cone
            if decreases_along_cone(loss, found, near):
                return DivergentParameters(cone.signs, cone, cone.unidentified, near)
        elif found is not None and found.cone.unidentified.any():
            none = np.zeros(vector.size, int)
            return DivergentParameters(none, found.cone, found.cone.unidentified, vector)
    signs = np.asarray(_flat_on_one_side(loss, psi, curvature))
    flat = None if signs.any() else _in_flat_direction(np.asarray(curvature))
    if flat is not None:
        far = flat & (np.abs(vector) > CRITERIA.far) & _has_bound(density, vector.size)
        signs = np.where(far, np.sign(vector), 0).astype(int)
    return DivergentParameters(signs, unidentified=None if signs.any() else flat)


def divergent_by_margins(loss: Loss) -> DivergentParameters:
    """Return the divergent parameters without a minimum (chains, training), by margins alone."""
    none = DivergentParameters(np.zeros(loss.vector.size, int))
    if loss.state.penalty is not None or not loss.has_few_parameters():
        return none
    if latent_variables(loss.density.variables, loss.events):
        return none
    if isinstance(loss.objective, Stochastic):
        # Its margins are those of the likelihood, for which distinct rows suffice.
        loss = loss._replace(events=distinct_rows(loss.events), state=ObjectiveState())
    found = margin_recession(loss)
    if found is None:
        return none
    return DivergentParameters(found.cone.signs, found.cone, found.cone.unidentified)


def _unit_diagonal(curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return eigenvalues and eigenvectors of the curvature with unit diagonal, and its scale."""
    scale = np.sqrt(np.abs(np.diagonal(curvature)))
    scale = np.where(scale > 0, scale, 1.0)
    return *np.linalg.eigh(curvature / np.outer(scale, scale)), scale


def _is_minimum(psi: np.ndarray, curvature: np.ndarray) -> bool:
    """Return whether g'H⁺g is at rounding level."""
    gradient = psi.mean(0)
    if not (np.isfinite(gradient).all() and np.isfinite(curvature).all()):
        return False
    values, vectors, scale = _unit_diagonal(curvature)
    kept = values > CRITERIA.floor * max(values[-1], 0.0)
    parts = vectors.T @ (gradient / scale)
    return bool(
        np.sum(parts[kept] ** 2 / values[kept]) < CRITERIA.decrement
        and np.abs(parts[~kept]).max(initial=0.0) < 1e-8
    )


def _has_bound(density, size: int) -> np.ndarray:
    """Return which coordinates are a logarithm or a logit, because their parameter has a bound."""
    free, parts = density.free(), [np.zeros(0, bool)]
    for name in sorted(free):
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(free[name]))
        parts.append(np.full(count, density.supports[name].score_matching == "generalized"))
    found = np.concatenate(parts)
    return np.concatenate([found, np.zeros(size - len(found), bool)])


def _in_flat_direction(curvature: np.ndarray) -> np.ndarray | None:
    """Return which coordinates change in the directions without curvature."""
    if not np.isfinite(curvature).all():
        return None
    values, vectors, _ = _unit_diagonal(curvature)
    flat = np.abs(values) <= CRITERIA.singular * max(abs(values[-1]), 1e-300)
    return np.abs(vectors[:, flat]).max(1, initial=0.0) > CRITERIA.part


@compiled
def _flat_on_one_side(loss: Loss, psi: jax.Array, curvature: jax.Array) -> jax.Array:
    """Return 1 or −1 for each coordinate along which the loss does not increase on that side alone.

    Coordinate j is moved by three model-based standard errors along H⁻¹e_j, together with the
    others: at a finite minimum the summed loss increases by about 9/2 on either side. Without an
    increase on one side there is no finite estimate; without one on both sides the direction is not
    identified. A loss in units of the data (score matching's are 1/x²) is first divided by
    tr(H⁻¹J)/p, which is about 1 for a likelihood.
    """
    vector, function = loss.vector, loss.penalized
    rows, (inverse, is_saddle) = len(psi), _inverse(curvature)
    discrete = all(support.discrete for support in loss.density.variables.values())
    has_units = loss.objective.traits.in_data_units and not discrete
    unit = jnp.mean(jnp.sum((psi @ inverse) * psi, 1)) / vector.size if has_units else 1.0
    moves = CRITERIA.errors * inverse * jnp.sqrt(unit / rows / jnp.diagonal(inverse))[:, None]
    here, predicted = function(vector), unit * CRITERIA.errors**2 / 2 / rows
    flat = jax.lax.map(
        lambda move: function(vector + move) - here < CRITERIA.flat * predicted,
        jnp.concatenate([moves, -moves]),
    )
    ahead, behind = jnp.split(flat, 2)
    return jnp.where(is_saddle, 0, ahead.astype(int) - behind.astype(int))


def _inverse(curvature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return H⁻¹, and whether H is indefinite: the optimizer stopped early, and says nothing of
    limits.

    Eigenvalues at rounding level are replaced by a small positive one.
    """
    scale = jnp.sqrt(jnp.abs(jnp.diagonal(curvature)))
    scale = jnp.where(scale > 0, scale, 1.0)
    values, vectors = jnp.linalg.eigh(curvature / jnp.outer(scale, scale))
    floor = CRITERIA.floor * jnp.max(values)
    inverse = (vectors / jnp.maximum(values, floor)) @ vectors.T / jnp.outer(scale, scale)
    return inverse, values[0] < -CRITERIA.indefinite * values[-1]


__all__ = ["DivergentParameters", "divergent_by_margins", "divergent_parameters"]
