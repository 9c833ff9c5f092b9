"""Fits of sampling-based objectives with few parameters: iterates averaged until their own error is small."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.diagnostics.verdict import WARNING, Finding
from unnorm.fitting import simulated, stochastic
from unnorm.fitting.finished import finished
from unnorm.fitting.inference import NoCovariance
from unnorm.fitting.optimise import NEWTON_LIMIT
from unnorm.fitting.problem import Problem
from unnorm.fitting.result import Fit


def averaged(problem: Problem) -> Fit:
    """Average iterates until their error is small; then the theory's covariance, and where the fixed point lies."""
    objective, density, events, rows = problem.objective, problem.density, problem.events, problem.rows
    batch_size = None if problem.batch_size is None or problem.batch_size >= rows else problem.batch_size
    key, chains_key, check_key = jax.random.split(jax.random.key(problem.seed), 3)
    extra = problem.prepared(key)
    unravel = ravel_pytree(density.free())[1]

    def at(vector):
        return density.at(unravel(jnp.asarray(vector)))

    def covariance_at(vector, extra):
        return simulated.covariance(objective, at(vector), extra, events, check_key)

    def errors_at(vector, extra):
        try:
            return np.sqrt(np.diagonal(covariance_at(vector, extra).total))
        except NoCovariance:
            if vector.size > NEWTON_LIMIT:
                return None
        # No theory for this kernel: maximum likelihood's errors as the scale.
        run = simulated.run_long(at(vector), events, check_key)
        return np.sqrt(np.diagonal(np.linalg.pinv(run.information)) / rows)

    settled = stochastic.settle(
        objective, density, extra, events, chains_key, errors_at, problem.shown, problem.steps, batch_size
    )
    covariance = problem.covariance_or_finding(lambda: covariance_at(settled.vector, settled.extra))
    if covariance is not None:
        drawn = np.diag(settled.error**2)
        covariance = covariance._replace(total=covariance.total + drawn, simulation=drawn)
    density = at(settled.vector)
    problem.findings += _told_of(settled)
    problem.findings += objective.findings(density, settled.extra, events, check_key)
    if settled.vector.size <= NEWTON_LIMIT:
        problem.findings += simulated.fixed_point_finding(objective, density, settled.extra, events, check_key)
    converged = settled.approached and (settled.converged or problem.steps is not None and covariance is None)
    return finished(problem, density, extra._replace(learned={}), covariance, converged, settled.history)


def _told_of(settled: stochastic.Settled) -> list[Finding]:
    findings = []
    if not settled.approached:
        findings.append(Finding(f"the parameters were still moving after {settled.steps} steps", "raise steps"))
    elif not settled.converged:
        what = f"after {settled.steps} steps the Monte Carlo error is above {stochastic.ENOUGH} standard errors"
        findings.append(Finding(what, "raise steps, or use a kernel that mixes faster", WARNING))
    if settled.acceptance and settled.acceptance < 0.1:
        what = f"the negative chains accept {settled.acceptance:.0%} of their proposals"
        findings.append(Finding(what, "give a smaller step_size to the kernel", WARNING))
    return findings
