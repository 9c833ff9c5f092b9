"""Fits of deterministic objectives: minimized to convergence, with the sandwich."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode
from unnorm.core.random_keys import fold_in, make_key
from unnorm.fitting.base import ReportsFindings
from unnorm.fitting.checks.growing_density import growth_findings
from unnorm.fitting.checks.influential_row import influential_row_findings
from unnorm.fitting.checks.near_bound import near_bound_findings
from unnorm.fitting.checks.objective_noise import noise_share_findings
from unnorm.fitting.existence.finite_estimate import DivergentParameters, divergent_parameters
from unnorm.fitting.inference.bootstrap.of_fit import bootstrap, parametric_covariance
from unnorm.fitting.inference.sandwich import Covariance, NoCovarianceError, sandwich
from unnorm.fitting.inference.small_samples import is_small, jackknife, rests_on_few
from unnorm.fitting.loss import Loss
from unnorm.fitting.objectives.score_matching.exact import score_matching_start
from unnorm.fitting.penalties.penalized_fit import (
    penalty_finding,
    posterior_covariance,
    prior_support_findings,
)
from unnorm.fitting.problem import Outcome, Problem
from unnorm.fitting.solvers.minimize import Convergence, minimize
from unnorm.fitting.solvers.multistart import best_of, restarts_of
from unnorm.fitting.solvers.unbounded_parameters import covariance_with_bounds, without_bounds


def fit_by_minimization(problem: Problem) -> Outcome:
    """Minimize, from several starts if asked; then the sandwich."""
    objective, findings = problem.objective, problem.findings
    found, gone, restarts = _minimum(problem)
    findings += restarts
    _refuse_infinite_loss(problem, found.loss)
    loss = gone.near_limit(found.at)
    _refuse_infinite_estimate(objective, loss.density)
    if isinstance(objective, ReportsFindings):
        findings += objective.findings(loss.density, loss.state, problem.events)
    converged, runs_away = found.converged and not gone.any(), gone.any()
    covariance, degrees = None, np.inf
    if loss.has_few_parameters() or loss.lasso is not None:
        errors = _StandardErrors(problem, loss, runs_away, converged)
        covariance = problem.covariance_or_finding(errors.covariance)
        degrees = errors.degrees
        findings += _of_estimates(problem, loss, covariance)
        converged = converged and all(f.code != FindingCode.NOT_CONVERGED for f in findings)
    else:
        what, advice = (
            "there are too many parameters for a covariance",
            "use the bootstrap for errors",
        )
        findings.append(Finding(what, advice, NOTE, code=FindingCode.NO_STANDARD_ERRORS))
    if not found.converged and not runs_away:
        findings.append(
            Finding(
                f"the optimizer stopped after {found.steps} steps without reaching a minimum",
                "look for parameters that run away (an empty cell, a flat direction), fix them "
                "or pass another start",
                code=FindingCode.NOT_CONVERGED,
            )
        )
    # Rounding, where every direction has a variance; that of the bootstrap may be the starts'.
    bootstraps = objective.traits.bootstraps_single_row and problem.rows == 1
    if covariance is not None and gone.cone is None and not bootstraps:
        gone = gone._replace(unidentified=None)
    if runs_away or np.any(gone.unidentified):  # the fit's first finding names the parameters
        unnamed = (FindingCode.NOT_IDENTIFIED, WARNING)
        findings[:] = [f for f in findings if (f.code, f.severity) != unnamed]
    refit = functools.partial(bootstrap, problem, loss)
    return Outcome(problem, loss, converged, found.history, covariance, gone, degrees, refit)


def _influential_rows(
    loss: Loss, psi: np.ndarray, curvature: np.ndarray, basis: np.ndarray
) -> list[Finding]:
    """One row that outweighs the others, from scores and H in the coordinates of a basis."""
    back = np.linalg.inv(basis)
    model_based = back.T @ curvature @ back if loss.objective.traits.is_likelihood else None
    return influential_row_findings(psi @ back, loss.coordinate_names(), model_based)


def _of_estimates(problem: Problem, loss: Loss, covariance: Covariance | None) -> list[Finding]:
    """Estimates near a bound, and a density without a finite Z that nothing else has noticed."""
    found: list[Finding] = []
    if covariance is not None and problem.penalty is None:
        found += near_bound_findings(loss, covariance.total)
    if not problem.objective.traits.is_likelihood:
        found += growth_findings(loss.density, problem.events)
    return found


class _Attempt(NamedTuple):
    """The lowest minimum from a start, its divergent parameters, and the findings of its
    restarts.
    """

    found: Convergence
    divergent: DivergentParameters
    findings: list[Finding]

    @property
    def is_minimum(self) -> bool:
        return self.found.converged and not self.divergent.any()


def _minimum(problem: Problem) -> _Attempt:
    """The minimum from the user's start; where there is none, from the data's; at last in whitened
    coordinates.
    """
    first = _minimum_from(problem, problem.density)
    size = len(first.found.vector)
    undetermined = problem.penalty is None and 1 < problem.rows < size  # another start is no help
    if first.is_minimum or undetermined:
        return first
    start = score_matching_start(problem.density, problem.events)
    if start is not None:
        again = _minimum_from(problem, start, whiten=True)
        if again.is_minimum:
            return again
    if first.found.converged or not np.isfinite(first.found.loss):
        return first
    return _minimum_from(problem, first.found.at.density, whiten=True)


def _minimum_from(problem: Problem, density, whiten: bool = False) -> _Attempt:
    key = make_key(problem.seed)
    loss = problem.loss(key, density)
    start = loss.start()

    def report(value):
        problem.shown.step(0.1, f"loss {value:.6g}")

    def minimum(density):
        return minimize(loss._replace(density=density), report, whiten)

    findings: list[Finding] = []
    variables, covariates = problem.p.variables, problem.p.covariates
    restarts = restarts_of(variables.values(), bool(covariates), problem.restarts)
    found = best_of(minimum, start, restarts, fold_in(key, 2), findings)
    findings = findings if problem.restarts else []  # winding is no other optimum
    if not np.isfinite(found.loss) or not found.at.has_few_parameters():
        return _Attempt(found, DivergentParameters(np.zeros(len(found.vector), int)), findings)
    return _Attempt(found, divergent_parameters(found.at), findings)


def _refuse_infinite_loss(problem: Problem, value: jax.Array) -> None:
    if not np.isfinite(value):
        raise ValueError(
            f"The loss of {type(problem.objective).__name__} is {float(value)} at the start of "
            f"the fit of {problem.p.name}; expected a finite number; pass start= parameters at "
            "which the density and its derivatives are finite on the data."
        )


def _refuse_infinite_estimate(objective, density) -> None:
    """Refuse an estimate that has left the floating-point numbers, which no density can hold."""
    for name, value in density.parameters.items():
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value)):
            raise ValueError(
                f"Parameter {name} of {density.name} diverged to infinity under "
                f"{type(objective).__name__}; expected a finite estimate; pass restarts=10, "
                f"another start={{{name!r}: ...}} or a prior, or fix it."
            )


class _StandardErrors:
    """The covariance at a minimum, and the degrees of freedom of its intervals."""

    def __init__(self, problem: Problem, loss: Loss, runs_away: bool, at_minimum: bool) -> None:
        self.problem, self.loss = problem, loss
        self.runs_away, self.at_minimum = runs_away, at_minimum
        self.degrees = np.inf

    def covariance(self) -> Covariance:
        """The sandwich; the parametric bootstrap where one lattice or graph was observed."""
        problem, objective = self.problem, self.problem.objective
        if problem.penalty is not None:
            problem.findings.append(penalty_finding(self.loss))
            problem.findings += prior_support_findings(self.loss)
            is_posterior = problem.penalty.priors and objective.traits.is_likelihood
            if problem.penalty.lasso or is_posterior:
                return posterior_covariance(self.loss)
        if self.runs_away or not objective.traits.bootstraps_single_row or problem.rows > 1:
            return self._robust()
        key = fold_in(make_key(problem.seed), 1)
        covariance, finding = parametric_covariance(self.loss, key)
        problem.findings.append(finding)
        return covariance

    def _robust(self) -> Covariance:
        """The sandwich; where it is singular in the unconstrained coordinates, that of the
        parameters themselves.

        A Cholesky factor mixes entries of a matrix whose units differ by many orders of magnitude.
        """
        density, state = self.loss.density, self.loss.state
        try:
            return self._sandwich(self.loss)
        except NoCovarianceError as singular:
            unbounded = without_bounds(density)
            if singular.finding.code != FindingCode.NOT_IDENTIFIED or unbounded is None:
                raise
        covariance = self._sandwich(self.loss._replace(density=unbounded))
        return covariance_with_bounds(covariance, density, unbounded, state)

    def _sandwich(self, loss: Loss) -> Covariance:
        """The sandwich; of few rows or clusters the jackknife."""
        problem = self.problem

        def correct(psi, curvature, basis):
            rows, parameters = psi.shape
            is_likelihood = problem.objective.traits.is_likelihood
            if problem.clusters is None:
                problem.findings += _influential_rows(loss, psi, curvature, basis)
            small = is_small(rows, parameters, problem.clusters)
            few = not small and rests_on_few(psi, curvature, problem.clusters, is_likelihood)
            # a sum over pairs has a bias in larger samples too
            if not (small or few or problem.objective.traits.couples_rows):
                return None
            found = jackknife(loss, psi, curvature, problem.clusters, basis)
            if found is None:
                return None
            problem.findings += found.findings
            if small or (few and found.findings):
                self.degrees = found.degrees
                return found.total
            return None

        found = sandwich(loss, problem.clusters, self.at_minimum, correct)
        problem.findings += self._of_noise(loss, found)
        return found

    def _of_noise(self, loss: Loss, covariance: Covariance) -> list[Finding]:
        """What the objective's draws do, unless the objective says as much."""
        known = [f for f in self.problem.findings if f.code == FindingCode.UNSUITABLE_NOISE]
        if any(f.severity == ERROR for f in known):
            return []
        key = fold_in(make_key(self.problem.seed), 3)
        found = noise_share_findings(loss, covariance, key)
        return [f for f in found if f.severity == ERROR or not known]
