"""Fits of sampling-based objectives with few parameters: iterates averaged until their own error is
small.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.core.progress import Bar
from unnorm.fitting.base import ObjectiveState
from unnorm.fitting.existence.finite_estimate import runaways_by_margins
from unnorm.fitting.existence.no_estimate import tell_runaways
from unnorm.fitting.inference.bootstrap import Bootstrap, of_vectors
from unnorm.fitting.inference.sandwich import NoCovariance
from unnorm.fitting.penalties.penalized_fit import told_of
from unnorm.fitting.problem import Problem
from unnorm.fitting.results.assemble import finished
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.solvers import stochastic_approximation
from unnorm.fitting.solvers.newton import NEWTON_LIMIT
from unnorm.numerics.diagonal_scaling import pseudo_inverse


def averaged(problem: Problem) -> Fit:
    """Average iterates until their error is small; then the theory's covariance, and where the
    fixed point lies.
    """
    objective, density, events, rows = (
        problem.objective,
        problem.density,
        problem.events,
        problem.rows,
    )
    unravel = ravel_pytree(density.free())[1]
    check_key = jax.random.fold_in(jax.random.key(problem.seed), 1)

    def at(vector):
        return density.at(unravel(jnp.asarray(vector)))

    def covariance_at(vector, state):
        return objective.covariance(at(vector), state, events, check_key)

    def errors_at(vector, state):
        try:
            return np.sqrt(np.diagonal(covariance_at(vector, state).total))
        except NoCovariance:
            if vector.size > NEWTON_LIMIT:
                return None
        # No theory for this kernel or for latent variables: maximum likelihood's errors as the
        # scale.
        information = objective.fisher_information(at(vector), state, events, check_key)
        return np.sqrt(np.diagonal(pseudo_inverse(information)) / rows)

    settled = settle(problem, errors_at)
    covariance = problem.covariance_or_finding(lambda: covariance_at(settled.vector, settled.state))
    if covariance is not None:
        drawn = np.diag(settled.error**2)
        covariance = covariance._replace(total=covariance.total + drawn, simulation=drawn)
    density = at(settled.vector)
    problem.findings += _told_of(settled)
    if problem.penalty is not None and problem.penalty.lasso:
        problem.findings.append(told_of(objective, density, settled.state, events))
    problem.findings += objective.chain_findings(density, settled.state, events, check_key)
    if settled.vector.size <= NEWTON_LIMIT:
        problem.findings += objective.fixed_point_findings(
            density, settled.state, events, check_key
        )
    converged = settled.approached and (
        settled.converged or (problem.steps is not None and covariance is None)
    )
    state = settled.state._replace(nuisance={})
    gone = runaways_by_margins(objective, density, state, events)
    fit = finished(
        problem, density, state, covariance, converged and not gone.any(), settled.history
    )
    tell_runaways(fit, density, state, gone)
    if problem.batch_size is None and settled.errors is not None:
        fit._again = functools.partial(
            refitted, dataclasses.replace(problem, density=density), settled.errors
        )
    return fit


def settle(problem: Problem, errors_at: Callable) -> stochastic_approximation.Settled:
    """The averaged iterate of a problem; `errors_at(vector, state)` are the errors against which it
    must be small.
    """
    batch_size = (
        None
        if problem.batch_size is None or problem.batch_size >= problem.rows
        else problem.batch_size
    )
    key, chains_key = jax.random.split(jax.random.key(problem.seed))
    state = problem.prepared(key)
    return stochastic_approximation.settle(
        problem.objective, problem.density, state, problem.events, chains_key, errors_at, problem.shown, problem.steps,
        batch_size,
    )  # fmt: skip


def refitted(
    problem: Problem, errors: np.ndarray, fit: Fit, replicates: int, seed: int
) -> Bootstrap:
    """Redraw the rows with replacement and average anew, from the fit on."""
    rng, found = np.random.default_rng(seed), []
    with jax.enable_x64(problem.is_double):
        for _ in range(replicates):
            rows = rng.integers(problem.rows, size=problem.rows)
            events = {name: value[rows] for name, value in problem.events.items()}
            again = dataclasses.replace(
                problem, events=events, seed=int(rng.integers(2**31)), shown=Bar()
            )
            found.append(settle(again, lambda *_: errors))
        vectors, kept = (
            np.array([one.vector for one in found]),
            np.array([one.approached for one in found]),
        )
        return of_vectors(fit, problem.density, ObjectiveState(), vectors, kept)


def _told_of(settled: stochastic_approximation.Settled) -> list[Finding]:
    findings = []
    if not settled.approached:
        findings.append(
            Finding(
                f"the parameters were still moving after {settled.steps} steps",
                "raise steps",
                code=FindingCode.NOT_CONVERGED,
            )
        )
    elif not settled.converged:
        what = f"after {settled.steps} steps the Monte Carlo error is above {stochastic_approximation.ENOUGH} standard errors"
        findings.append(
            Finding(
                what,
                "raise steps, or use a kernel that mixes faster",
                WARNING,
                code=FindingCode.NOT_CONVERGED,
            )
        )
    if settled.acceptance and settled.acceptance < 0.1:
        what = f"the negative chains accept {settled.acceptance:.0%} of their proposals"
        findings.append(
            Finding(
                what,
                "give a smaller step_size to the kernel",
                WARNING,
                code=FindingCode.LOW_ACCEPTANCE,
            )
        )
    return findings
