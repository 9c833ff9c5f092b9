"""Fits of deterministic objectives: minimised to convergence, with the sandwich."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.fitting.base import ReportsFindings, start_values
from unnorm.fitting.existence.finite_estimate import Runaways, runaways
from unnorm.fitting.existence.no_estimate import tell_runaways
from unnorm.fitting.inference.bootstrap import bootstrapped
from unnorm.fitting.inference.bootstrap_refits import parametric_covariance
from unnorm.fitting.inference.sandwich import Covariance, NoCovariance, sandwich
from unnorm.fitting.inference.small_samples import is_small, jackknife
from unnorm.fitting.penalties.penalized_fit import posterior_covariance, told_of
from unnorm.fitting.problem import Problem
from unnorm.fitting.results.assemble import finished
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.solvers.multistart import best_of
from unnorm.fitting.solvers.newton import few, lasso_strengths
from unnorm.fitting.solvers.refresh import Settled, settled
from unnorm.fitting.solvers.start_values import matched
from unnorm.fitting.solvers.unbounded_parameters import into_free, relaxed


def minimised(problem: Problem, finish: Callable = finished) -> Fit:
    """Minimise, from several starts if asked; then the sandwich; `finish` puts them into the user's
    terms.
    """
    objective, events = problem.objective, problem.events
    found, signs, told_of_restarts = _minimum(problem)
    problem.findings += told_of_restarts
    if not np.isfinite(found.loss):
        raise ValueError(
            f"The loss of {type(objective).__name__} is {float(found.loss)} at the start of the "
            "fit of "
            f"{problem.p.name}; expected a finite number; pass start= parameters at which the "
            "density and its "
            "derivatives are finite on the data."
        )
    density, state = signs.near_limit(found.density, found.state)
    converged = found.settled and not signs.any()
    _refuse_infinite(objective, density)
    if isinstance(objective, ReportsFindings):
        problem.findings += objective.findings(density, state, events)
    covariance = None
    if few(density, state) or lasso_strengths(density, state) is not None:
        covariance = problem.covariance_or_finding(
            lambda: _covariance(problem, density, state, signs.any(), converged)
        )
        converged = converged and all(
            told.code != FindingCode.NOT_CONVERGED for told in problem.findings
        )
    else:
        problem.findings.append(
            Finding(
                "there are too many parameters for a covariance",
                "use the bootstrap for errors",
                NOTE,
                code=FindingCode.NO_STANDARD_ERRORS,
            )
        )
    if not found.settled and not signs.any():
        problem.findings.append(
            Finding(
                f"the optimiser stopped after {found.steps} steps without reaching a minimum",
                "look for parameters that run away (an empty cell, a flat direction), fix them "
                "or pass another start",
                code=FindingCode.NOT_CONVERGED,
            )
        )
    if (
        covariance is not None and signs.cone is None
    ):  # of some rounding: the covariance tells every direction
        signs = signs._replace(unidentified=None)
    if signs.any() or np.any(signs.unidentified):  # `tell_runaways` names the parameters
        unnamed = (FindingCode.NOT_IDENTIFIED, WARNING)
        problem.findings[:] = [
            told for told in problem.findings if (told.code, told.severity) != unnamed
        ]
    fit = finish(problem, density, state, covariance, converged, found.history)
    tell_runaways(fit, density, state, signs)
    fit._again = functools.partial(bootstrapped, problem, density, state)
    return fit


class _Attempt(NamedTuple):
    """The lowest minimum from a start, what runs away from it (`runaways`), and the findings of its
    restarts.
    """

    found: Settled
    signs: Runaways
    told: list[Finding]

    @property
    def is_minimum(self) -> bool:
        return self.found.settled and not self.signs.any()


def _minimum(problem: Problem) -> _Attempt:
    """The minimum from the user's start; where there is none, from the data's; at last in whitened
    coordinates.
    """
    first = _minimum_from(problem, problem.density)
    undetermined = problem.penalty is None and 1 < problem.rows < len(
        first.found.vector
    )  # another start is no help
    if first.is_minimum or undetermined:
        return first
    start = matched(problem.density, problem.events)
    if start is not None:
        again = _minimum_from(problem, start, whiten=True)
        if again.is_minimum:
            return again
    if first.found.settled or not np.isfinite(first.found.loss):
        return first
    return _minimum_from(problem, first.found.density, whiten=True)


def _minimum_from(problem: Problem, density, whiten: bool = False) -> _Attempt:
    objective, events, key = problem.objective, problem.events, jax.random.key(problem.seed)
    state = replace(problem, density=density).prepared(key)
    start = density.at(start_values(objective, density, state))

    def minimum(density):
        def tell(loss):
            problem.shown.step(0.1, f"loss {loss:.6g}")

        return settled(objective, density, state, events, tell, whiten)

    told: list[Finding] = []
    found = best_of(minimum, start, problem.restarts, jax.random.fold_in(key, 2), told)
    if not np.isfinite(found.loss) or not few(found.density, found.state):
        return _Attempt(found, Runaways(np.zeros(len(found.vector), int)), told)
    return _Attempt(found, runaways(objective, found.density, found.state, events), told)


def _refuse_infinite(objective, density) -> None:
    """Refuse an estimate that has left the floating-point numbers, which no density can hold."""
    for name, value in density.parameters.items():
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value)):
            raise ValueError(
                f"Parameter {name} of {density.name} ran away to infinity under "
                f"{type(objective).__name__}; expected a "
                f"finite estimate; pass restarts=10, another start={{{name!r}: ...}} or a prior, "
                "or fix it."
            )


def _covariance(problem: Problem, density, state, runs_away: bool, at_minimum: bool) -> Covariance:
    """The sandwich; the parametric bootstrap where one lattice or graph was observed."""
    objective, events = problem.objective, problem.events
    if problem.penalty is not None:
        problem.findings.append(told_of(objective, density, state, events))
        if problem.penalty.lasso or (problem.penalty.priors and objective.traits.is_likelihood):
            return posterior_covariance(objective, density, state, events)
    if runs_away or not objective.traits.bootstraps_single_row or problem.rows > 1:
        return _robust(problem, density, state, at_minimum)
    key = jax.random.fold_in(jax.random.key(problem.seed), 1)
    covariance, told = parametric_covariance(objective, density, state, events, key)
    problem.findings.append(told)
    return covariance


def _robust(problem: Problem, density, state, at_minimum: bool) -> Covariance:
    """The sandwich; where it is singular in the unconstrained coordinates, that of the parameters
    themselves.

    A Cholesky factor mixes entries of a matrix whose units differ by many orders of magnitude.
    """
    try:
        return _sandwich(problem, density, state, at_minimum)
    except NoCovariance as singular:
        without_bounds = relaxed(density)
        if singular.finding.code != FindingCode.NOT_IDENTIFIED or without_bounds is None:
            raise
    return into_free(
        _sandwich(problem, without_bounds, state, at_minimum), density, without_bounds, state
    )


def _sandwich(problem: Problem, density, state, at_minimum: bool) -> Covariance:
    """The sandwich; of few rows or clusters the jackknife."""
    given = problem.objective, density, state, problem.events

    def correct(psi, curvature, basis):
        small = is_small(*psi.shape, problem.clusters)
        if (
            not small and not problem.objective.traits.couples_rows
        ):  # a sum over pairs has a bias in larger samples too
            return None
        found = jackknife(*given, psi, curvature, problem.clusters, basis)
        if found is None:
            return None
        problem.findings += found.findings
        if small:
            problem.degrees = found.degrees
        return found.total if small else None

    return sandwich(*given, problem.clusters, at_minimum, correct)
