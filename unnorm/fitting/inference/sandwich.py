"""Standard errors: every objective's covariance comes from here, in the coordinates of the free
parameters.

mean_i ψ(x_i; θ) = 0 gives V = H⁻¹ J H⁻ᵀ / n with H = mean ∂ψ/∂θ', J = Cov(ψ) (Godambe 1960; White
1982, doi:10.2307/1912526).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.fitting.base import CorrectsScores, DrawsRowNoise, DrawsSharedNoise
from unnorm.fitting.inference.vanishing_score import vanishing_score
from unnorm.fitting.loss import Loss, hessian, penalty_slope, scores_and_curvature
from unnorm.numerics import diagonal_scaling


@dataclass(frozen=True)
class SandwichOptions:
    """When a covariance is trusted.

    Attributes:
        ill_conditioned: smallest scaled singular value of H below which H has lost digits that the
            scores still have.
        off_minimum: standard errors by which the mean score may be away from zero at a minimum.
        smallest_square: of a score; below it, sums of squares lose digits to underflow.
        singular: smallest scaled singular value of H below which a direction is not identified.
    """

    ill_conditioned: float = 1e-6
    off_minimum: float = 0.1
    smallest_square: float = 1e-280
    singular: float = 1e-11


DEFAULTS = SandwichOptions()


class Covariance(NamedTuple):
    """The robust covariance of the free parameters and learned extras; what another seed would
    change of it; and H⁻¹/n.

    The last is a covariance only for a likelihood of a true model.
    """

    total: np.ndarray
    simulation: np.ndarray
    inverse_curvature: np.ndarray


class NoCovarianceError(ValueError):
    """Why there is no covariance, as a sentence, and what to do about it."""

    def __init__(
        self,
        what: str,
        advice: str = "fix or penalise what the data do not identify, or use the bootstrap",
        severity: str = WARNING,
        code: FindingCode = FindingCode.NO_STANDARD_ERRORS,
    ) -> None:
        super().__init__(what)
        self.finding = Finding(what, advice, severity, code)


def sandwich(
    loss: Loss,
    clusters: np.ndarray | None = None,
    at_minimum: bool = True,
    correct: Callable | None = None,
) -> Covariance:
    """The robust covariance of a per-example objective at its minimum, everything that was
    estimated counted.

    Args:
        loss: at its minimum.
        clusters: numbered from 0. Rows of one cluster may depend on each other: their scores are
            summed before they are squared.
        at_minimum: the optimizer converged, which the rows' scores must confirm.
        correct: gives the covariance of few rows or clusters in the place of the sandwich's, from
            the scores and H in the coordinates of a basis, or None.
    """
    objective, density, state, events = loss
    psi, curvature = scores_and_curvature(loss)
    if at_minimum and len(psi) > 1:
        _refuse_vanishing_score(loss, np.asarray(psi), np.asarray(curvature))
        _refuse_slope(np.asarray(psi), np.asarray(penalty_slope(density, state)))
    given = density, state, events
    correction = row_noise = shared_noise = None
    if isinstance(objective, CorrectsScores):
        correction = objective.score_correction(*given)
    if isinstance(objective, DrawsRowNoise):
        row_noise = objective.noise_variance(*given)
    if isinstance(objective, DrawsSharedNoise):
        shared_noise = objective.shared_noise(*given)
    curvature, basis = _resolve(loss, np.asarray(psi), np.asarray(curvature))
    psi = np.asarray(psi if correction is None else np.add(psi, correction)) @ basis
    drawn, shared = (
        None if part is None else basis.T @ np.asarray(part) @ basis
        for part in (row_noise, shared_noise)
    )
    if objective.traits.is_likelihood and len(psi) == 1:  # only the model gives a graph's spread
        found = bread_and_meat(curvature, curvature, 1)
    else:
        found = sandwich_of(psi, curvature, drawn, clusters)
        better = correct and correct(psi, curvature, basis)
        found = found if better is None else found._replace(total=better)
    if shared is not None:
        noise = bread_and_meat(curvature, shared, 1).total
        found = found._replace(total=found.total + noise, simulation=found.simulation + noise)
    return Covariance(*(basis @ part @ basis.T for part in found))


def _resolve(loss: Loss, psi: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W'HW and W: the identity, or where H is ill-conditioned a basis in which the rows' scores are
    uncorrelated.
    """
    basis, finite = None, np.isfinite(curvature).all() and np.isfinite(psi).all()
    smallest = diagonal_scaling.smallest_singular_value
    if len(psi) > 1 and finite and smallest(curvature) < DEFAULTS.ill_conditioned:
        basis = diagonal_scaling.whitening(psi)
    if basis is None:
        return curvature, np.eye(psi.shape[1])
    return np.asarray(_curvature_in(loss, jnp.asarray(basis, psi.dtype))), basis


@compiled
def _curvature_in(loss: Loss, basis: jax.Array) -> jax.Array:
    """W'HW, by derivatives along the columns of W."""
    vector = loss.vector
    return hessian(lambda y: loss.mean(vector + basis @ y), jnp.zeros_like(vector))


def _refuse_slope(psi: np.ndarray, added: np.ndarray) -> None:
    """Refuse an estimate at which the mean score, the penalty's slope `added`, is not zero beside
    its own error.

    Rounding, overflow and underflow may stop an optimiser at any place; the scores tell in their
    own units.
    """
    size = np.abs(psi).max(0)
    unit = np.where(size > 0, size, 1.0)
    with np.errstate(all="ignore"):
        mean, spread = (psi / unit).mean(0) + added / unit, (psi / unit).std(0)
        off = np.sqrt(len(psi)) * np.abs(mean) / np.where(spread > 0, spread, 1.0)
        squares = size**2
    if not np.all(np.isfinite(squares)) or np.any(
        (size > 0) & (squares < DEFAULTS.smallest_square)
    ):
        raise NoCovarianceError(
            f"the scores of the rows reach {size.max():.1e} and {size.min():.1e}, whose squares "
            "leave the range of "
            "floating-point numbers, so that neither the estimate nor its errors can be trusted",
            "rescale the data and covariates to numbers around 1",
            ERROR,
            FindingCode.OVERFLOW,
        )
    if not np.all(off <= DEFAULTS.off_minimum):
        raise NoCovarianceError(
            f"the mean score at the estimate is {np.nanmax(off):.1e} of its standard errors away "
            "from zero: rounding or overflow stopped the optimiser short of a minimum",
            "centre and rescale the data and covariates to numbers around 1, or pass another start",
            ERROR,
            FindingCode.NOT_CONVERGED,
        )


def _refuse_vanishing_score(loss: Loss, psi: np.ndarray, curvature: np.ndarray) -> None:
    """Refuse an estimate at which a parameter's score is zero in every row, beside a loss in nats:
    losses in units of the data have no unit to compare with.
    """
    if loss.state.penalty is not None or loss.objective.traits.in_data_units:
        return
    found = vanishing_score(loss, psi, curvature)
    if found is not None:
        raise NoCovarianceError(found.what, found.advice, found.severity, found.code)


def sandwich_of(
    psi: np.ndarray,
    curvature: np.ndarray,
    drawn: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
) -> Covariance:
    """V from the rows' scores (n, p) and H."""
    if len(psi) < 2:
        raise NoCovarianceError(
            "one row of data has no spread to estimate a covariance from, so there are no "
            "standard errors",
            "pass more rows",
        )
    centred = psi - psi.mean(0)
    if clusters is None:
        return bread_and_meat(curvature, centred.T @ centred / len(psi), len(psi), drawn)
    count = clusters.max() + 1
    if count < 2:
        raise NoCovarianceError(
            "one cluster has no spread to estimate a covariance from",
            "pass clusters of several labels",
        )
    sums = np.zeros((count, psi.shape[1]))
    np.add.at(sums, clusters, centred)
    meat = sums.T @ sums / len(psi) * count / (count - 1)  # few clusters: the customary correction
    return bread_and_meat(curvature, meat, len(psi), drawn)


def bread_and_meat(
    curvature: np.ndarray, meat: np.ndarray, n: int, drawn: np.ndarray | None = None
) -> Covariance:
    """H⁻¹ J H⁻ᵀ / n by solving; a singular H is refused, never hidden by a pseudo-inverse."""
    if not (np.isfinite(curvature).all() and np.isfinite(meat).all()):
        raise NoCovarianceError(
            "the scores or their derivatives are not finite at the estimate, so there are no "
            "standard errors",
            "correct the density there, rescale the data, or keep its parameters off that place",
            ERROR,
            FindingCode.OVERFLOW,
        )
    smallest = diagonal_scaling.smallest_singular_value(curvature)
    if not smallest > DEFAULTS.singular:
        raise NoCovarianceError(
            f"the information matrix is singular (smallest scaled singular value {smallest:.1e}): "
            "some parameters are not identified by these data, so there are no standard errors",
            code=FindingCode.NOT_IDENTIFIED,
        )
    half = diagonal_scaling.solve(curvature, _root(meat))
    total, inverse = half @ half.T / n, diagonal_scaling.inverse(curvature) / n
    if drawn is None:
        return Covariance(total, np.zeros_like(total), inverse)
    half = diagonal_scaling.solve(curvature, _root(drawn))
    return Covariance(total, half @ half.T / n, inverse)


def _root(matrix: np.ndarray) -> np.ndarray:
    """R with R R' = M."""
    root = diagonal_scaling.covariance_root(matrix)
    if root is None:
        raise NoCovarianceError(
            "the estimated covariance of the scores is not positive semi-definite: its Monte Carlo "
            "noise is too large, so there are no standard errors",
            "pass more rows, raise k, or use the bootstrap",
        )
    return root
