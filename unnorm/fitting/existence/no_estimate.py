"""What is said of parameters without a finite estimate, and what stands in the table in their
place.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from unnorm.core.findings import Finding, FindingCode, listed
from unnorm.fitting.base import CorrectsScores, DrawsRowNoise, Stochastic
from unnorm.fitting.existence.finite_estimate import Runaways
from unnorm.fitting.existence.recession_directions import Cone
from unnorm.fitting.existence.separation import reasons, unidentified
from unnorm.fitting.inference.sandwich import (
    Covariance,
    NoCovariance,
    entries,
    sandwich_of,
    scores_and_curvature,
)
from unnorm.fitting.solvers.newton import parameters_of

_MOST_SUMS = 6  # of determined sums that are listed
_ZERO = 1e-6  # of a coefficient of one


class _Entries(NamedTuple):
    """The listed entries by what has become of them, and their derivative in the coordinates."""

    away: np.ndarray
    undetermined: np.ndarray  # in the limit
    unidentified: np.ndarray
    jacobian: np.ndarray


def tell_runaways(fit, density, state, gone: Runaways | None) -> None:
    """Name the parameters without a finite estimate and say why; the table holds their limits in
    place of numbers.
    """
    if not isinstance(gone, Runaways) or (
        not gone.any() and (gone.unidentified is None or not gone.unidentified.any())
    ):
        return
    vector, unravel = parameters_of(density, state)
    estimates, jacobian = entries(density, lambda v: unravel(v)[0], vector)
    found = _entries(gone, jacobian())
    upwards = found.jacobian @ gone.signs > 0
    limits = np.array([bounds[int(up)] for bounds, up in zip(fit._bounds(), upwards, strict=True)])
    unknown = found.undetermined | found.unidentified
    fit._estimates = np.where(unknown, np.nan, np.where(found.away, limits, estimates))
    limit = (
        None if gone.cone is None or gone.vector is None else _limit(fit, density, state, gone.cone)
    )
    if gone.any() or limit is not None:
        _hide_errors(fit, found, limit)
    labels = np.array(fit._labels())
    if found.unidentified.any():
        fit.findings.insert(
            0, unidentified(fit, labels[found.unidentified], np.flatnonzero(gone.unidentified))
        )
    if gone.any():
        told = [
            f"{a} runs away to {b:g}"
            for a, b in zip(labels[found.away], limits[found.away], strict=True)
        ]
        sums = [] if gone.cone is None else _sums(labels, estimates, gone.cone, found, limit)
        fit.findings.insert(
            0, _no_estimate(fit, told, list(labels[found.undetermined]), sums, gone.cone)
        )


def _entries(gone: Runaways, jacobian: np.ndarray) -> _Entries:
    def moved(which: np.ndarray | None) -> np.ndarray:
        return (
            np.zeros(len(jacobian), bool) if which is None else np.abs(jacobian) @ np.abs(which) > 0
        )

    unidentified = moved(gone.unidentified)
    undetermined = moved(None if gone.cone is None else gone.cone.undetermined) & ~unidentified
    return _Entries(moved(gone.signs), undetermined, unidentified, jacobian)


def _no_estimate(
    fit, told: list[str], unknown: list[str], sums: list[str], cone: Cone | None
) -> Finding:
    why, advice = reasons(fit, cone)
    if unknown and told:
        one = len(unknown) == 1
        told = [
            *told,
            f"{listed(unknown, 8)} "
            f"{'has no limit of its own' if one else 'have no limits of their own'}",
        ]
    elif unknown:
        told = [f"{listed(unknown, 8)} run away together"]
    determined = f" (determined: {listed(sums, _MOST_SUMS)})" if sums else ""
    what = f"there is no finite estimate: {', '.join(told) or 'log Z runs away'}{determined}, {why}"
    return Finding(what, advice, code=FindingCode.NO_FINITE_ESTIMATE)


def _sums(
    labels: np.ndarray, estimates: np.ndarray, cone: Cone, found: _Entries, limit: np.ndarray | None
) -> list:
    """The sums of undetermined parameters that are determined in the limit, with their
    estimates.
    """
    order = found.jacobian.argmax(1)
    if (
        not np.array_equal(found.jacobian, np.eye(found.jacobian.shape[1])[order])
        or not found.undetermined.any()
    ):
        return []  # the entries are functions of several coordinates
    told = []
    for row in _echelon(cone.limit[order].T):
        inside = np.flatnonzero(np.abs(row) > _ZERO)
        if len(inside) < 2 or not found.undetermined[inside].all():
            continue
        terms = [("" if abs(row[k] - 1) < _ZERO else f"{row[k]:.4g} ") + labels[k] for k in inside]
        error = (
            "" if limit is None else f" ± {np.sqrt(row @ limit[np.ix_(order, order)] @ row):.3g}"
        )
        told.append(f"{' + '.join(terms).replace('+ -', '- ')} = {row @ estimates:.4g}{error}")
    return told


def _echelon(rows: np.ndarray) -> np.ndarray:
    """The reduced echelon form of rows of full rank: each has a column that is 1 in it and 0 in the
    others.
    """
    if not rows.size:
        return rows
    pivots = scipy.linalg.qr(rows, pivoting=True, mode="r")[1][: len(rows)]
    return np.linalg.solve(rows[:, pivots], rows)


def _hide_errors(fit, found: _Entries, limit: np.ndarray | None) -> None:
    """Leave no standard error of what has no estimate; `limit` is the covariance of what is
    determined all the same.
    """
    gone = found.away | found.undetermined | found.unidentified
    hidden = np.where(np.logical_or.outer(gone, gone), np.nan, 0.0)
    if limit is not None:
        total = found.jacobian @ limit @ found.jacobian.T + hidden
        fit._covariance = Covariance(total, np.zeros_like(total), np.full_like(total, np.nan))
        fit.findings[:] = [
            told for told in fit.findings if told.code is not FindingCode.NO_STANDARD_ERRORS
        ]
    elif fit._covariance is not None:
        fit._covariance = type(fit._covariance)(*(part + hidden for part in fit._covariance))
    fit._free_covariance = None  # log Z and the log-likelihood of other data have no error then
    if isinstance(fit.log_z, list):
        fit.log_z = [z and z._replace(sampling_error=np.nan) for z in fit.log_z]
    elif fit.log_z is not None:
        fit.log_z = fit.log_z._replace(sampling_error=np.nan)


def _limit(fit, density, state, cone: Cone) -> np.ndarray | None:
    """The sandwich of the combinations that are determined in the limit, for the coordinates that
    are such.
    """
    problem = None if fit._origin is None else fit._origin.problem
    if (
        problem is None
        or isinstance(problem.objective, Stochastic)
        or not cone.limit.shape[1]
        or problem.rows < 2
    ):
        return None
    objective, events, basis = problem.objective, problem.events, cone.limit
    psi, curvature = scores_and_curvature(
        objective, density, state, events, parameters_of(density, state)[0]
    )
    correction = drawn = None
    if isinstance(objective, CorrectsScores):
        correction = objective.score_correction(density, state, events)
    if isinstance(objective, DrawsRowNoise):
        drawn = objective.noise_variance(density, state, events)
    psi = np.asarray(psi if correction is None else psi + correction)
    # θ = B φ with B = V (V'V)⁻¹: φ = V'θ are the combinations, and the others stay where they are
    back = basis @ np.linalg.inv(basis.T @ basis)
    drawn = None if drawn is None else back.T @ np.asarray(drawn) @ back
    try:
        inner = sandwich_of(
            psi @ back, back.T @ np.asarray(curvature) @ back, drawn, problem.clusters
        )
    except NoCovariance:
        return None
    return back @ inner.total @ back.T
