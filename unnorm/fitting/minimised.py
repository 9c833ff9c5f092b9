"""Fits of deterministic objectives: minimised to convergence, with the sandwich."""

import functools

import jax
import numpy as np

from unnorm.diagnostics.verdict import NOTE, Finding
from unnorm.fitting.bootstrap import parametric_covariance
from unnorm.fitting.existence import runaways, tell_runaways
from unnorm.fitting.finished import finished
from unnorm.fitting.inference import Covariance, sandwich
from unnorm.fitting.objectives import PseudoLikelihood
from unnorm.fitting.optimise import NEWTON_LIMIT, lbfgs, newton, parameters_of
from unnorm.fitting.problem import Problem
from unnorm.fitting.replicated import bootstrapped
from unnorm.fitting.result import Fit

_ROUNDS = 10  # how often an objective may renew what it prepared (quadrature nodes)


def minimised(problem: Problem) -> Fit:
    """Minimise, renew what was prepared until it holds at the minimum, then the sandwich."""
    objective, density, events = problem.objective, problem.density, problem.events
    extra = problem.prepared(jax.random.key(problem.seed))
    density = density.at(extra.shared.get("start", density.free()))  # where the objective brought the parameters near
    minimise = newton if parameters_of(density, extra)[0].size <= NEWTON_LIMIT else lbfgs
    for _ in range(_ROUNDS):
        found = objective.solved(density, extra, events) if extra.weights is None else None
        found = found or minimise(objective, density, extra, events)
        if not np.isfinite(found.loss):
            raise ValueError(
                f"The loss of {type(objective).__name__} is {float(found.loss)} at the start of the fit of "
                f"{problem.p.name}; expected a finite number; pass start= parameters at which the density and its "
                "derivatives are finite on the data."
            )
        free, learned = parameters_of(density, extra)[1](found.vector)
        density, extra = density.at(free), extra._replace(learned=learned)
        problem.shown.step(0.1, f"loss {float(found.loss):.6g}")
        renewed = objective.refreshed(density, extra, events)
        if renewed is None:
            break
        extra = renewed
    converged = bool(np.isfinite(found.decrement)) and renewed is None
    problem.findings += objective.findings(density, extra, events)
    covariance, signs = None, np.zeros(len(found.vector))
    if minimise is lbfgs:
        problem.findings.append(
            Finding("there are too many parameters for a covariance", "use the bootstrap for errors", NOTE)
        )
    else:
        signs = runaways(objective, density, extra, events)
        converged = converged and not signs.any()
        covariance = problem.covariance_or_finding(lambda: _covariance(problem, density, extra, signs.any()))
    if not converged and not signs.any():
        problem.findings.append(
            Finding(
                f"the optimiser stopped after {int(found.steps)} steps without reaching a minimum",
                "look for parameters that run away (an empty cell, a flat direction), fix them or pass another start",
            )
        )
    history = np.asarray(found.history)
    fit = finished(problem, density, extra, covariance, converged, history)
    tell_runaways(fit, density, extra, signs)
    fit._again = functools.partial(bootstrapped, problem, density, extra)
    return fit


def _covariance(problem: Problem, density, extra, runs_away: bool) -> Covariance:
    """The sandwich; the parametric bootstrap where one lattice or graph was observed."""
    objective, events = problem.objective, problem.events
    if runs_away or not isinstance(objective, PseudoLikelihood) or problem.rows > 1:
        return sandwich(objective, density, extra, events, problem.clusters)
    key = jax.random.fold_in(jax.random.key(problem.seed), 1)
    covariance, told = parametric_covariance(objective, density, extra, events, key)
    problem.findings.append(told)
    return covariance
