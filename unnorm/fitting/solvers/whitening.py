"""Ill-conditioned fits, in coordinates in which the rows' scores are uncorrelated.

An offset of the data makes parameters nearly collinear: with x around 1,000 and a spread of 1, the
scores x and x² of a normal density correlate by 1 - 10⁻⁷. The Hessian, which squares that, keeps
few digits; the scores themselves keep all.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.fitting.base import Extra
from unnorm.fitting.inference.sandwich import RESOLVED, row_scores
from unnorm.fitting.solvers.newton import Minimum, newton, parameters_of
from unnorm.numerics.diagonal_scaling import whitening


@jax.jit
def _scores(objective, density, extra: Extra, events: dict, vector: jax.Array) -> jax.Array:
    return row_scores(objective, density, extra, events, vector)


def basis_at(
    objective, density, extra: Extra, events: dict, vector: jax.Array
) -> np.ndarray | None:
    """W, with which the rows' scores W'ψ are uncorrelated; None where they do not tell all
    parameters.
    """
    psi = np.asarray(_scores(objective, density, extra, events, vector))
    if not np.isfinite(psi).all():
        return None
    return whitening(psi, RESOLVED)


def newton_again(objective, density, extra: Extra, events: dict, found: Minimum) -> Minimum:
    """Newton's method in whitened coordinates, from where it stopped; what it found before, if that
    is of no use.
    """
    vector = found.vector
    if not bool(jnp.all(jnp.isfinite(vector))):
        return found
    basis = basis_at(objective, density, extra, events, vector)
    if basis is None:
        return found
    free, learned = parameters_of(density, extra)[1](vector)
    there, extra = density.at(free), extra._replace(learned=learned)
    again = newton(objective, there, extra, events, jnp.asarray(basis, vector.dtype))
    return again if bool(jnp.isfinite(again.decrement)) else found
