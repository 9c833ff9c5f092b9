"""The table and the findings of a fit whose parameters have no finite estimate: their limits stand
in place of numbers.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from unnorm.core.findings import Finding, FindingCode, join_names
from unnorm.fitting.base import CorrectsScores, DrawsRowNoise, Stochastic
from unnorm.fitting.existence.finite_estimate import DivergentParameters
from unnorm.fitting.existence.recession_directions import Cone
from unnorm.fitting.existence.separation import identification_finding, reasons
from unnorm.fitting.inference.delta_method import entries
from unnorm.fitting.inference.sandwich import Covariance, NoCovarianceError, sandwich_of
from unnorm.fitting.loss import Loss, scores_and_curvature


class Table(NamedTuple):
    """What a fit reports of its join_names entries."""

    estimates: np.ndarray
    covariance: Covariance | None
    findings: list[Finding]
    has_estimate: bool = True  # else log Z and the log-likelihood of other data have no error


class _Entries(NamedTuple):
    """Which join_names entries diverge, and the derivative of all in the coordinates."""

    divergent: np.ndarray
    undetermined: np.ndarray  # in the limit
    unidentified: np.ndarray
    jacobian: np.ndarray


def with_limits(
    table: Table,
    loss: Loss,
    divergent: DivergentParameters,
    problem: Any,
    labels: list[str],
    bounds: list,
) -> Table:
    """Return the table with limits in place of infinite estimates, and findings with the reason.

    Args:
        table: as estimated.
        loss: at the estimate.
        divergent: which coordinates have no finite estimate.
        problem: the `Problem`; None for several data sets.
        labels: of the join_names entries.
        bounds: of the join_names entries.
    """
    collinear = divergent.unidentified is not None and divergent.unidentified.any()
    if not divergent.any() and not collinear:
        return table
    estimates, jacobian = entries(loss, loss.vector)
    found = _entries(divergent, jacobian())
    upwards = found.jacobian @ divergent.signs > 0
    limits = np.array([ends[int(up)] for ends, up in zip(bounds, upwards, strict=True)])
    unknown = found.undetermined | found.unidentified
    limit = None
    if divergent.cone is not None and divergent.vector is not None:
        limit = _limit_covariance(problem, loss, divergent.cone)
    if divergent.any() or limit is not None:
        table = _without_errors(table, found, limit)
    findings, names = table.findings, np.array(labels)
    if divergent.unidentified is not None and found.unidentified.any():
        coordinates = np.flatnonzero(divergent.unidentified)
        finding = identification_finding(problem, names[found.unidentified], coordinates)
        findings = [finding, *findings]
    if divergent.any():
        ends = zip(names[found.divergent], limits[found.divergent], strict=True)
        parts = [f"{label} diverges to {end:g}" for label, end in ends]
        sums = (
            [] if divergent.cone is None else _sums(names, estimates, divergent.cone, found, limit)
        )
        undetermined = list(names[found.undetermined])
        reason = reasons(problem, findings, divergent.cone)
        findings = [_no_estimate(reason, parts, undetermined, sums), *findings]
    estimates = np.where(unknown, np.nan, np.where(found.divergent, limits, estimates))
    return table._replace(estimates=estimates, findings=findings)


def _entries(divergent: DivergentParameters, jacobian: np.ndarray) -> _Entries:
    def depends_on(coordinates: np.ndarray | None) -> np.ndarray:
        if coordinates is None:
            return np.zeros(len(jacobian), bool)
        return np.abs(jacobian) @ np.abs(coordinates) > 0

    unidentified = depends_on(divergent.unidentified)
    cone = divergent.cone
    undetermined = depends_on(None if cone is None else cone.undetermined) & ~unidentified
    return _Entries(depends_on(divergent.signs), undetermined, unidentified, jacobian)


def _no_estimate(
    reason: tuple[str, str], parts: list[str], undetermined: list[str], sums: list[str]
) -> Finding:
    why, advice = reason
    if undetermined and parts:
        one = len(undetermined) == 1
        verb = "has no limit of its own" if one else "have no limits of their own"
        parts = [*parts, f"{join_names(undetermined, 8)} {verb}"]
    elif undetermined:
        parts = [f"{join_names(undetermined, 8)} diverge together"]
    determined = f" (determined: {join_names(sums, 6)})" if sums else ""
    what = f"there is no finite estimate: {', '.join(parts) or 'log Z diverges'}{determined}, {why}"
    return Finding(what, advice, code=FindingCode.NO_FINITE_ESTIMATE)


def _sums(
    labels: np.ndarray,
    estimates: np.ndarray,
    cone: Cone,
    found: _Entries,
    limit: np.ndarray | None,
    zero: float = 1e-6,
) -> list[str]:
    """Return the sums of undetermined parameters that have a finite estimate in the limit.

    Coefficients below `zero` are rounding errors.
    """
    order = found.jacobian.argmax(1)
    is_selection = np.array_equal(found.jacobian, np.eye(found.jacobian.shape[1])[order])
    if not is_selection or not found.undetermined.any():
        return []  # the entries are functions of several coordinates
    sums = []
    for row in _echelon(cone.limit[order].T):
        inside = np.flatnonzero(np.abs(row) > zero)
        if len(inside) < 2 or not found.undetermined[inside].all():
            continue
        terms = [("" if abs(row[k] - 1) < zero else f"{row[k]:.4g} ") + labels[k] for k in inside]
        error = ""
        if limit is not None:
            error = f" ± {np.sqrt(row @ limit[np.ix_(order, order)] @ row):.3g}"
        sums.append(f"{' + '.join(terms).replace('+ -', '- ')} = {row @ estimates:.4g}{error}")
    return sums


def _echelon(rows: np.ndarray) -> np.ndarray:
    """Return the reduced echelon form of rows of full rank.

    Each row has a column that is 1 in it and 0 in the others.
    """
    if not rows.size:
        return rows
    pivots = scipy.linalg.qr(rows, pivoting=True, mode="r")[1][: len(rows)]
    return np.linalg.solve(rows[:, pivots], rows)


def _without_errors(table: Table, found: _Entries, limit: np.ndarray | None) -> Table:
    """Return the table without standard errors of infinite estimates.

    `limit` is the covariance of the combinations that remain determined.
    """
    gone = found.divergent | found.undetermined | found.unidentified
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
    """Return the covariance of the coordinates that follows from the combinations determined in the
    limit.
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
    # θ = B φ with B = V (V'V)⁻¹: φ = V'θ are the combinations; all others stay fixed
    back = basis @ np.linalg.inv(basis.T @ basis)
    drawn = None if drawn is None else back.T @ np.asarray(drawn) @ back
    try:
        inner = sandwich_of(
            psi @ back, back.T @ np.asarray(curvature) @ back, drawn, problem.clusters
        )
    except NoCovarianceError:
        return None
    return back @ inner.total @ back.T
