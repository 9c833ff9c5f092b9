"""Linear algebra with diagonal scaling: results do not depend on the units of data and covariates.

A matrix of second derivatives or of score covariances has entries in the units of two parameters.
Eigenvalues of the matrix itself compare numbers of different units, and a floor on them erases the
parameters whose units are large. Here every matrix is first divided by the square roots of its
diagonal on both sides: D⁻¹ M D⁻¹ has a unit diagonal.

References:
    van der Sluis (1969), doi:10.1007/BF02165096 (nearly the best diagonal scaling).
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)  # NumPy in, NumPy out; JAX in, JAX out


def units_of(matrix: Array) -> Array:
    """The square roots of the absolute diagonal, 1 where it is 0; of the input's array type."""
    xp = jnp if isinstance(matrix, jax.Array) else np
    diagonal = xp.abs(xp.diagonal(matrix))
    return xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))


def scale_by_diagonal(matrix: Array) -> tuple[Array, Array]:
    """D⁻¹ M D⁻¹, and D as a vector."""
    units = units_of(matrix)
    # not divided by the product of units, which may overflow
    return matrix / units[:, None] / units[None, :], units


def solve(matrix: Array, right: Array) -> Array:
    """M⁻¹ right, for a vector or the columns of a matrix."""
    xp = jnp if isinstance(matrix, jax.Array) else np
    inside, units = scale_by_diagonal(matrix)
    along = units if right.ndim == 1 else units[:, None]
    return xp.linalg.solve(inside, right / along) / along


def inverse(matrix: np.ndarray) -> np.ndarray:
    """M⁻¹ of a symmetric matrix."""
    inside, units = scale_by_diagonal((matrix + matrix.T) / 2)
    return np.linalg.inv(inside) / units[:, None] / units[None, :]


def pseudo_inverse(matrix: np.ndarray) -> np.ndarray:
    """The pseudo-inverse of a symmetric matrix, its rank determined on the scaled matrix."""
    inside, units = scale_by_diagonal((matrix + matrix.T) / 2)
    return np.linalg.pinv(inside, hermitian=True) / units[:, None] / units[None, :]


def smallest_singular_value(matrix: np.ndarray) -> float:
    """Of the scaled matrix: 1 if it is diagonal, 0 if a direction is not identified."""
    return float(np.linalg.svd(scale_by_diagonal(matrix)[0], compute_uv=False).min())


def covariance_root(
    matrix: np.ndarray, floor: float = 1e-14, negative: float = 1e-6
) -> np.ndarray | None:
    """R with R R' = M up to rounding; None if M is not positive semi-definite.

    Rounding may leave an eigenvalue at -1e-18, for which a Cholesky factorization fails.

    Args:
        matrix: symmetric up to rounding.
        floor: eigenvalues of the scaled matrix, relative to the largest, are raised to this.
        negative: an eigenvalue below minus this share of the largest is not due to rounding.
    """
    inside, units = scale_by_diagonal((matrix + matrix.T) / 2)
    values, vectors = np.linalg.eigh(inside)
    largest = max(values.max(), 1e-300)
    if values.min() < -negative * largest:
        return None
    return units[:, None] * vectors * np.sqrt(np.maximum(values, floor * largest))


def whitening(scores: np.ndarray, floor: float = 1e-12) -> np.ndarray | None:
    """W with Cov(scores W) = 1, from the singular values of the scaled scores.

    For nearly collinear scores this keeps twice as many digits as their covariance. None if a
    singular value is below `floor` times the largest, which is rounding.
    """
    centred = scores - scores.mean(0)
    with np.errstate(over="ignore"):
        units = np.sqrt((centred**2).mean(0))
    if not (np.all(np.isfinite(units)) and np.all(units > 0)):
        return None
    _, sizes, axes = np.linalg.svd(centred / units, full_matrices=False)
    if len(sizes) < scores.shape[1] or not sizes.min() > floor * sizes.max():
        return None
    return axes.T * np.sqrt(len(scores)) / sizes / units[:, None]


def add_ridge(metric: jax.Array, share: float = 1e-3) -> jax.Array:
    """The metric with a share of its diagonal added, so that it is not singular.

    1 is added for coordinates that have not varied.
    """
    diagonal = jnp.diagonal(metric)
    return metric + jnp.diag(jnp.where(diagonal > 0, share * diagonal, 1.0))
