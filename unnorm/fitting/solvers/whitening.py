"""Ill-conditioned fits, in coordinates in which the rows' scores are uncorrelated.

An offset of the data makes parameters nearly collinear: with x around 1,000 and a spread of 1, the
scores x and x² of a normal density correlate by 1 - 10⁻⁷. The Hessian, which squares that, keeps
few digits; the scores themselves keep all.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.inference.sandwich import RESOLVED, row_scores
from unnorm.fitting.solvers.newton import Minimum, newton, parameters_of
from unnorm.numerics.diagonal_scaling import whitening


@jax.jit
def _scores(
    objective, density, state: ObjectiveState, events: dict, vector: jax.Array
) -> jax.Array:
    return row_scores(objective, density, state, events, vector)


def basis_at(
    objective, density, state: ObjectiveState, events: dict, vector: jax.Array
) -> np.ndarray | None:
    """W, with which the rows' scores W'ψ are uncorrelated; None where they do not tell all
    parameters.
    """
    psi = np.asarray(_scores(objective, density, state, events, vector))
    if not np.isfinite(psi).all():
        return None
    return whitening(psi, RESOLVED)


def newton_again(
    objective, density, state: ObjectiveState, events: dict, found: Minimum
) -> Minimum:
    """Newton's method in whitened coordinates, from where it stopped; what it found before, if that
    is of no use.
    """
    vector = found.vector
    if not bool(jnp.all(jnp.isfinite(vector))):
        return found
    basis = basis_at(objective, density, state, events, vector)
    if basis is None:
        return found
    free, nuisance = parameters_of(density, state)[1](vector)
    there, state = density.at(free), state._replace(nuisance=nuisance)
    again = newton(objective, there, state, events, jnp.asarray(basis, vector.dtype))
    return again if bool(jnp.isfinite(again.decrement)) else found
