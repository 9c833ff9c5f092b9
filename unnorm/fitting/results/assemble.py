"""From an estimate to a `Fit`: everything in the user's terms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import NOTE, Finding, FindingCode
from unnorm.core.method import registry_name
from unnorm.fitting.base import EstimatesLogZ, HasLogZPlan, LearnsLogZ
from unnorm.fitting.inference.sandwich import Covariance, entries
from unnorm.fitting.inference.small_samples import parameters_beside_rows
from unnorm.fitting.problem import Origin, Problem
from unnorm.fitting.results.fit import Fit, FitLogZ
from unnorm.fitting.results.log_likelihood import exact_log_z
from unnorm.fitting.solvers.newton import parameters_of
from unnorm.supports import PyTreeSupport


def finished(problem: Problem, density, state, covariance, converged, history) -> Fit:
    """Everything in the user's terms: listed entries, their covariance by the delta method, log Z
    with its errors.
    """
    p, objective, events, findings = problem.p, problem.objective, problem.events, problem.findings
    vector, unravel = parameters_of(density, state)
    free = ravel_pytree(density.free())[0].size
    estimates, jacobian = entries(density, lambda v: unravel(v)[0], vector)
    listed = None
    if covariance is not None:
        slope = jacobian()
        listed = Covariance(*(slope @ part @ slope.T for part in covariance))
    values = {name: jax.tree.map(at_rest, value) for name, value in density.parameters.items()}
    fitted = p.bind(**values)
    log_z, where = log_z_and_place(
        objective, density, state, events, vector, unravel, covariance, findings
    )
    improper = any(f.code == FindingCode.NOT_NORMALIZABLE for f in findings)
    if log_z is None and not improper:
        findings.append(no_log_z(density))
    has_tree = any(
        isinstance(support, PyTreeSupport) for support in density.supports.values()
    )  # networks stop early
    findings += parameters_beside_rows(problem.rows, free, has_tree or problem.penalty is not None)
    return Fit(
        density=fitted,
        objective=registry_name(type(objective)),
        target=objective.target,
        converged=converged and not improper,
        log_z=log_z,
        history=history[~np.isnan(history)],
        seed=problem.seed,
        rows=problem.rows,
        findings=findings,
        likelihood=objective.traits.is_likelihood,
        _estimates=estimates,
        _covariance=listed,
        _free_covariance=None if covariance is None else covariance.total[:free, :free],
        _degrees=problem.degrees,
        _location=where,
        _origin=Origin(problem, density, state),
    )


def log_z_and_place(
    objective, density, state, events, vector, unravel, covariance, findings: list
) -> tuple[Any, Any]:
    """log Z with its errors, or None; and where the data lie, if log Z is at hand exactly.

    `vector` is all that was estimated, `covariance` its own; `unravel` gives this density's part of
    it.
    """
    plan = objective.log_z_plan(state) if isinstance(objective, HasLogZPlan) else None
    where, gradient, exact = exact_log_z(density, vector, unravel, events, findings, plan)
    if isinstance(objective, LearnsLogZ):
        at = _position_of_log_z(objective, unravel, vector)
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
    found = objective.log_z_estimate(density, state, events, covariance)
    return found and FitLogZ(*found), where


def no_log_z(density) -> Finding:
    """What is to be done where a fit gives no log Z."""
    if not density.covariates:
        return Finding(
            "the method gives no log Z here",
            "run un.log_z(fit.density) for it",
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


def _position_of_log_z(objective, unravel, vector) -> int:
    """Where log Z stands in the vector of all that was estimated."""
    return int(jnp.argmax(jax.grad(lambda v: objective.learned_log_z(unravel(v)[1]))(vector)))


def at_rest(leaf):
    """An array as NumPy's; a network's functions stay."""
    return np.asarray(leaf) if hasattr(leaf, "dtype") else leaf
