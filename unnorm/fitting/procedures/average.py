"""Fits of sampling-based objectives with few parameters: iterates averaged until their own error is
small.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.core.progress import Bar
from unnorm.core.random_keys import fold_in, make_key, split_keys
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.existence.finite_estimate import divergent_by_margins
from unnorm.fitting.inference.bootstrap.result import Bootstrap, of_vectors
from unnorm.fitting.inference.sandwich import NoCovarianceError
from unnorm.fitting.loss import Loss
from unnorm.fitting.penalties.penalized_fit import penalty_finding
from unnorm.fitting.problem import Outcome, Problem
from unnorm.fitting.solvers import stochastic_approximation
from unnorm.fitting.solvers.stochastic_approximation import Average
from unnorm.numerics.diagonal_scaling import pseudo_inverse


def fit_by_averaging(problem: Problem) -> Outcome:
    """Average iterates until their error is small; then the theory's covariance, and where the
    fixed point lies.
    """
    objective, events, findings = problem.objective, problem.events, problem.findings
    check_key = fold_in(make_key(problem.seed), 1)
    errors = _Errors(problem, check_key)
    average = _average(problem, errors.at)
    loss, few = errors.loss(average.vector, average.state), errors.has_few_parameters
    covariance = problem.covariance_or_finding(
        lambda: errors.covariance(average.vector, average.state)
    )
    if covariance is not None:
        drawn = np.diag(average.error**2)
        covariance = covariance._replace(total=covariance.total + drawn, simulation=drawn)
    findings += _convergence_findings(average)
    if problem.penalty is not None and problem.penalty.lasso:
        findings.append(penalty_finding(loss))
    findings += objective.chain_findings(loss.density, loss.state, events, check_key)
    if few:
        findings += objective.fixed_point_findings(loss.density, loss.state, events, check_key)
    converged = average.converged or (problem.steps is not None and covariance is None)
    loss = loss._replace(state=loss.state._replace(nuisance={}))
    gone = divergent_by_margins(loss)
    converged = average.approached and converged and not gone.any()
    refit = None
    if problem.batch_size is None and average.errors is not None:
        at_estimate = dataclasses.replace(problem, density=loss.density)
        refit = functools.partial(_bootstrap, at_estimate, average.errors)
    return Outcome(problem, loss, converged, average.history, covariance, gone, refit=refit)


class _Errors:
    """Standard errors of a sampling-based objective, at any vector."""

    def __init__(self, problem: Problem, key: jax.Array) -> None:
        self.problem, self.key = problem, key
        self.start = problem.unprepared_loss
        self.has_few_parameters = self.start.has_few_parameters()

    def loss(self, vector: np.ndarray, state: ObjectiveState) -> Loss:
        return self.start.at(jnp.asarray(vector))._replace(state=state)

    def covariance(self, vector: np.ndarray, state: ObjectiveState):
        objective, *given = self.loss(vector, state)
        return objective.covariance(*given, self.key)

    def at(self, vector: np.ndarray, state: ObjectiveState) -> np.ndarray | None:
        """By the theory; else maximum likelihood's, as the scale; None for many parameters."""
        try:
            return np.sqrt(np.diagonal(self.covariance(vector, state).total))
        except NoCovarianceError:
            if not self.has_few_parameters:
                return None
        objective, *given = self.loss(vector, state)
        information = objective.fisher_information(*given, self.key)
        return np.sqrt(np.diagonal(pseudo_inverse(information)) / self.problem.rows)


def _average(problem: Problem, errors_at: Callable) -> Average:
    """The averaged iterate; `errors_at(vector, state)` are the errors against which its Monte Carlo
    error must be small.
    """
    size = problem.batch_size
    batch_size = None if size is None or size >= problem.rows else size
    key, chains_key = split_keys(make_key(problem.seed))
    return stochastic_approximation.average_iterates(
        problem.loss(key), chains_key, errors_at, problem.shown, problem.steps, batch_size
    )


def _bootstrap(problem: Problem, errors: np.ndarray, fit, replicates: int, seed: int) -> Bootstrap:
    """Resample the rows with replacement and average again, from the fit on."""
    rng, found = np.random.default_rng(seed), []
    with jax.enable_x64(problem.is_double):
        for _ in range(replicates):
            rows = rng.integers(problem.rows, size=problem.rows)
            events = {name: value[rows] for name, value in problem.events.items()}
            again = dataclasses.replace(
                problem, events=events, seed=int(rng.integers(2**31)), shown=Bar()
            )
            found.append(_average(again, lambda *_: errors))
        vectors = np.array([one.vector for one in found])
        kept = np.array([one.approached for one in found])
        return of_vectors(fit, problem.unprepared_loss, vectors, kept)


def _convergence_findings(average: Average) -> list[Finding]:
    findings, code = [], FindingCode.NOT_CONVERGED
    if not average.approached:
        what = f"the parameters were still moving after {average.steps} steps"
        findings.append(Finding(what, "raise steps", code=code))
    elif not average.converged:
        limit = stochastic_approximation.DEFAULTS.relative_error
        what = f"after {average.steps} steps the Monte Carlo error is above {limit} standard errors"
        advice = "raise steps, or use a kernel that mixes faster"
        findings.append(Finding(what, advice, WARNING, code=code))
    if average.acceptance and average.acceptance < 0.1:
        what = f"the negative chains accept {average.acceptance:.0%} of their proposals"
        advice = "give a smaller step_size to the kernel"
        findings.append(Finding(what, advice, WARNING, code=FindingCode.LOW_ACCEPTANCE))
    return findings
