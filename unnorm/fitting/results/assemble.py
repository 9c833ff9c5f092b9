"""From the outcome of a procedure to a `Fit`: everything in the user's terms."""

from typing import Any

import jax
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.fitting.base import EstimatesLogZ, HasLogZPlan, LearnsLogZ, levels_of
from unnorm.fitting.data.row_weights import effective_rows_findings
from unnorm.fitting.existence.no_estimate import Table, with_limits
from unnorm.fitting.inference.delta_method import entries
from unnorm.fitting.inference.information_criteria import log_likelihood_of
from unnorm.fitting.inference.sandwich import Covariance
from unnorm.fitting.inference.small_samples import parameters_beside_rows
from unnorm.fitting.penalties.penalized_fit import penalized_estimand
from unnorm.fitting.problem import Origin, Outcome
from unnorm.fitting.results.entries import entry_bounds, entry_labels
from unnorm.fitting.results.exact_log_z import exact_log_z
from unnorm.fitting.results.fit import Fit, FitLogZ
from unnorm.fitting.results.flow_likelihood import noise_path
from unnorm.supports.base import has_network


def assemble(outcome: Outcome) -> Fit:
    """The fit of one data set: listed entries, their covariance by the delta method, log Z with its
    errors.
    """
    problem, loss = outcome.problem, outcome.loss
    density, covariance, findings = loss.density, outcome.covariance, problem.findings
    free = sum(np.size(leaf) for leaf in jax.tree.leaves(density.free()))
    fitted = bind(problem.p, density)
    log_z, where = log_z_and_location(loss, loss.vector, loss.parts, covariance, findings)
    normalizable = all(f.code != FindingCode.NOT_NORMALIZABLE for f in findings)
    if log_z is None and normalizable:
        findings.append(no_log_z(density))
    is_network = has_network(density.supports)
    regular = is_network or problem.penalty is not None  # networks stop early
    findings += parameters_beside_rows(problem.rows, free, regular)
    findings += [] if regular else effective_rows_findings(loss.state.weights, free)
    table = table_of(outcome, fitted, problem)
    objective, target, is_likelihood = penalized_estimand(problem.objective, problem.penalty)
    errors = covariance if table.has_estimate else None
    return Fit(
        density=fitted,
        objective=objective,
        target=target,
        converged=outcome.converged and normalizable,
        log_z=log_z if table.has_estimate else without_sampling_error(log_z),
        history=outcome.history[~np.isnan(outcome.history)],
        seed=problem.seed,
        rows=problem.rows,
        findings=table.findings,
        likelihood=is_likelihood and problem.objective.traits.is_likelihood,
        _log_likelihood=log_likelihood_of(outcome) if normalizable else None,
        _penalized=problem.penalty is not None,
        _estimates=table.estimates,
        _covariance=table.covariance,
        _free_covariance=None if errors is None else errors.total[:free, :free],
        _degrees=outcome.degrees,
        _location=where,
        _refit=outcome.refit,
        _path=noise_path(levels_of(problem.objective), density, problem.events, problem.weights),
        _origin=Origin(problem, loss),
    )


def table_of(outcome: Outcome, fitted: Any, problem: Any) -> Table:
    """The listed entries with their covariance; limits in place of what has no finite estimate."""
    loss, covariance = outcome.loss, outcome.covariance
    estimates, jacobian = entries(loss, loss.vector)
    if covariance is not None:
        slope = jacobian()
        covariance = Covariance(*(slope @ part @ slope.T for part in covariance))
    table = Table(estimates, covariance, outcome.problem.findings)
    if outcome.divergent is None:
        return table
    labels, bounds = entry_labels(fitted), entry_bounds(fitted)
    return with_limits(table, loss, outcome.divergent, problem, labels, bounds)


def without_sampling_error(log_z: FitLogZ | None) -> FitLogZ | None:
    """log Z of parameters that have no finite estimate."""
    return log_z and log_z._replace(sampling_error=np.nan)


def bind(p: Any, density: Any) -> Any:
    """The user's density at the estimate, with arrays as NumPy's."""
    return p.bind(**jax.tree.map(_as_numpy, density.parameters))


def log_z_and_location(
    loss: Any, vector: jax.Array, unravel: Any, covariance: Covariance | None, findings: list
) -> tuple[Any, Any]:
    """log Z with its errors, or None; and where the data lie, if log Z is at hand exactly.

    `vector` is all that was estimated, `covariance` its own; `unravel` gives this density's part of
    it.
    """
    objective, density, state, events = loss
    plan = objective.log_z_plan(state) if isinstance(objective, HasLogZPlan) else None
    where, gradient, exact = exact_log_z(density, vector, unravel, events, findings, plan)
    if isinstance(objective, LearnsLogZ):
        at = int(np.argmax(_slope_of_log_z(objective, unravel, vector)))
        total, drawn = (
            (np.nan, np.nan) if covariance is None else (part[at, at] for part in covariance[:2])
        )
        found = FitLogZ(
            float(objective.learned_log_z(state.nuisance)),
            float(np.sqrt(drawn)),
            float(np.sqrt(max(total - drawn, 0.0))),
        )
        return found, where
    if exact is not None:
        spread = (
            np.nan if covariance is None else float(np.sqrt(gradient @ covariance.total @ gradient))
        )
        return FitLogZ(exact, 0.0, spread), where
    if not isinstance(objective, EstimatesLogZ):
        return None, where
    estimate = objective.log_z_estimate(density, state, events, covariance)
    return estimate and FitLogZ(*estimate), where


def no_log_z(density) -> Finding:
    """How to get log Z where a fit gives none."""
    if not density.covariates:
        return Finding(
            "the method gives no log Z here",
            "run un.log_z(fit.density) for an estimate",
            NOTE,
            code=FindingCode.NO_LOG_Z,
        )
    what = f"each row has its own log Z, by its {', '.join(density.covariates)}"
    given = ", ".join(f"{name}=..." for name in density.covariates)
    return Finding(
        what,
        f"run un.log_z(fit.density.given({given})) for one of them",
        NOTE,
        code=FindingCode.NO_LOG_Z,
    )


@compiled
def _slope_of_log_z(objective: Any, unravel: Any, vector: jax.Array) -> jax.Array:
    return jax.grad(lambda v: objective.learned_log_z(unravel(v)[1]))(vector)


def _as_numpy(leaf: Any) -> Any:
    """An array as NumPy's; a network's functions stay."""
    return np.asarray(leaf) if hasattr(leaf, "dtype") else leaf
