"""Fits of deterministic objectives: minimised to convergence, with the sandwich."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from unnorm.diagnostics.verdict import NOTE, Finding
from unnorm.fitting.bootstrap import parametric_covariance
from unnorm.fitting.existence import runaways
from unnorm.fitting.finished import finished
from unnorm.fitting.inference import Covariance, sandwich
from unnorm.fitting.no_estimate import tell_runaways
from unnorm.fitting.objectives import PseudoLikelihood
from unnorm.fitting.optimise import few, lasso_strengths, settled
from unnorm.fitting.penalised import posterior_covariance, told_of
from unnorm.fitting.problem import Problem
from unnorm.fitting.replicated import bootstrapped
from unnorm.fitting.restarts import best_of
from unnorm.fitting.result import Fit


def minimised(problem: Problem, finish: Callable = finished) -> Fit:
    """Minimise, from several starts if asked; then the sandwich; `finish` puts them into the user's terms."""
    objective, density, events = problem.objective, problem.density, problem.events
    key = jax.random.key(problem.seed)
    extra = problem.prepared(key)
    density = density.at(extra.shared.get("start", density.free()))  # where the objective brought the parameters near

    def minimum(density):
        return settled(objective, density, extra, events, lambda loss: problem.shown.step(0.1, f"loss {loss:.6g}"))

    found = best_of(minimum, density, problem.restarts, jax.random.fold_in(key, 2), problem.findings)
    if not np.isfinite(found.loss):
        raise ValueError(
            f"The loss of {type(objective).__name__} is {float(found.loss)} at the start of the fit of "
            f"{problem.p.name}; expected a finite number; pass start= parameters at which the density and its "
            "derivatives are finite on the data."
        )
    density, extra, converged = found.density, found.extra, found.settled
    _refuse_infinite(objective, density)
    problem.findings += objective.findings(density, extra, events)
    covariance, signs = None, np.zeros(len(found.vector))
    enough = few(density, extra)
    if enough:
        signs = runaways(objective, density, extra, events)
        converged = converged and not signs.any()
        density, extra = signs.near_limit(density, extra)
    if enough or lasso_strengths(density, extra) is not None:
        covariance = problem.covariance_or_finding(lambda: _covariance(problem, density, extra, signs.any()))
    else:
        problem.findings.append(
            Finding("there are too many parameters for a covariance", "use the bootstrap for errors", NOTE)
        )
    if not converged and not signs.any():
        problem.findings.append(
            Finding(
                f"the optimiser stopped after {found.steps} steps without reaching a minimum",
                "look for parameters that run away (an empty cell, a flat direction), fix them or pass another start",
            )
        )
    fit = finish(problem, density, extra, covariance, converged, found.history)
    tell_runaways(fit, density, extra, signs)
    fit._again = functools.partial(bootstrapped, problem, density, extra)
    return fit


def _refuse_infinite(objective, density) -> None:
    """Refuse an estimate that has left the floating-point numbers, which no density can hold."""
    for name, value in density.parameters.items():
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value)):
            raise ValueError(
                f"Parameter {name} of {density.name} ran away to infinity under {type(objective).__name__}; expected a "
                f"finite estimate; pass restarts=10, another start={{{name!r}: ...}} or a prior, or fix it."
            )


def _covariance(problem: Problem, density, extra, runs_away: bool) -> Covariance:
    """The sandwich; the parametric bootstrap where one lattice or graph was observed."""
    objective, events = problem.objective, problem.events
    if problem.penalty is not None:
        problem.findings.append(told_of(objective, density, extra, events))
        if problem.penalty.lasso or problem.penalty.priors and objective.information_identity:
            return posterior_covariance(objective, density, extra, events)
    if runs_away or not isinstance(objective, PseudoLikelihood) or problem.rows > 1:
        return sandwich(objective, density, extra, events, problem.clusters)
    key = jax.random.fold_in(jax.random.key(problem.seed), 1)
    covariance, told = parametric_covariance(objective, density, extra, events, key)
    problem.findings.append(told)
    return covariance
