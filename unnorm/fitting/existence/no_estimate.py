"""What is said of parameters without a finite estimate, and what stands in the table in their
place.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from unnorm.core.findings import Finding, FindingCode, join_names
from unnorm.fitting.base import CorrectsScores, DrawsRowNoise, Stochastic
from unnorm.fitting.existence.finite_estimate import Runaways
from unnorm.fitting.existence.recession_directions import Cone
from unnorm.fitting.existence.separation import identification_finding, reasons
from unnorm.fitting.inference.sandwich import Covariance, NoCovariance, entries, sandwich_of
from unnorm.fitting.loss import Loss, scores_and_curvature

_ZERO = 1e-6  # of a coefficient of one


class Table(NamedTuple):
    """What a fit reports of its listed entries."""

    estimates: np.ndarray
    covariance: Covariance | None
    findings: list[Finding]
    has_estimate: bool = True  # else log Z and the log-likelihood of other data have no error


class _Entries(NamedTuple):
    """The listed entries by what has become of them, and their derivative in the coordinates."""

    away: np.ndarray
    undetermined: np.ndarray  # in the limit
    unidentified: np.ndarray
    jacobian: np.ndarray


def with_limits(
    table: Table, loss: Loss, gone: Runaways, problem: Any, labels: list[str], bounds: list
) -> Table:
    """The table with the limits of parameters that have no finite estimate in place of numbers, and
    findings that say why.

    Args:
        table: as estimated.
        loss: at the estimate.
        gone: which coordinates have no finite estimate.
        problem: the `Problem`; None for several data sets.
        labels, bounds: of the listed entries.
    """
    lost = gone.unidentified is not None and gone.unidentified.any()
    if not gone.any() and not lost:
        return table
    estimates, jacobian = entries(loss.density, loss.free_at, loss.vector)
    found = _entries(gone, jacobian())
    upwards = found.jacobian @ gone.signs > 0
    limits = np.array([ends[int(up)] for ends, up in zip(bounds, upwards, strict=True)])
    unknown = found.undetermined | found.unidentified
    limit = None
    if gone.cone is not None and gone.vector is not None:
        limit = _limit_covariance(problem, loss, gone.cone)
    if gone.any() or limit is not None:
        table = _hide_errors(table, found, limit)
    findings, names = table.findings, np.array(labels)
    if found.unidentified.any():
        assert gone.unidentified is not None
        coordinates = np.flatnonzero(gone.unidentified)
        findings = [
            identification_finding(problem, names[found.unidentified], coordinates),
            *findings,
        ]
    if gone.any():
        away = zip(names[found.away], limits[found.away], strict=True)
        parts = [f"{label} runs away to {end:g}" for label, end in away]
        sums = [] if gone.cone is None else _sums(names, estimates, gone.cone, found, limit)
        undetermined = list(names[found.undetermined])
        why = reasons(problem, findings, gone.cone)
        findings = [_no_estimate(why, parts, undetermined, sums), *findings]
    estimates = np.where(unknown, np.nan, np.where(found.away, limits, estimates))
    return table._replace(estimates=estimates, findings=findings)


def _entries(gone: Runaways, jacobian: np.ndarray) -> _Entries:
    def moved(which: np.ndarray | None) -> np.ndarray:
        return (
            np.zeros(len(jacobian), bool) if which is None else np.abs(jacobian) @ np.abs(which) > 0
        )

    unidentified = moved(gone.unidentified)
    undetermined = moved(None if gone.cone is None else gone.cone.undetermined) & ~unidentified
    return _Entries(moved(gone.signs), undetermined, unidentified, jacobian)


def _no_estimate(
    reason: tuple[str, str], told: list[str], unknown: list[str], sums: list[str]
) -> Finding:
    why, advice = reason
    if unknown and told:
        one = len(unknown) == 1
        told = [
            *told,
            f"{join_names(unknown, 8)} "
            f"{'has no limit of its own' if one else 'have no limits of their own'}",
        ]
    elif unknown:
        told = [f"{join_names(unknown, 8)} run away together"]
    determined = f" (determined: {join_names(sums, 6)})" if sums else ""
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


def _hide_errors(table: Table, found: _Entries, limit: np.ndarray | None) -> Table:
    """Leave no standard error of what has no estimate; `limit` is the covariance of what is
    determined nevertheless.
    """
    gone = found.away | found.undetermined | found.unidentified
    hidden = np.where(np.logical_or.outer(gone, gone), np.nan, 0.0)
    covariance, findings = table.covariance, table.findings
    if limit is not None:
        total = found.jacobian @ limit @ found.jacobian.T + hidden
        covariance = Covariance(total, np.zeros_like(total), np.full_like(total, np.nan))
        findings = [f for f in findings if f.code is not FindingCode.NO_STANDARD_ERRORS]
    elif covariance is not None:
        covariance = Covariance(*(part + hidden for part in covariance))
    return table._replace(covariance=covariance, findings=findings, has_estimate=False)


def _limit_covariance(problem: Any, loss: Loss, cone: Cone) -> np.ndarray | None:
    """The sandwich of the combinations that are determined in the limit, for the coordinates that
    are such.
    """
    if problem is None or isinstance(problem.objective, Stochastic):
        return None
    if not cone.limit.shape[1] or problem.rows < 2:
        return None
    objective, density, state, events = loss
    basis = cone.limit
    psi, curvature = scores_and_curvature(loss)
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
