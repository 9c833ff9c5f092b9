"""The entries that a lasso kept, fitted again without shrinkage; its zeros stay.

References: Belloni and Chernozhukov (2013), doi:10.3150/11-BEJ410.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.fitting.base import CorrectsScores, DrawsRowNoise, DrawsSharedNoise
from unnorm.fitting.inference.sandwich import Covariance, NoCovarianceError, sandwich_of
from unnorm.fitting.loss import Loss, scores_and_curvature
from unnorm.fitting.problem import Outcome, Problem
from unnorm.fitting.solvers.minimize import minimize


@dataclasses.dataclass(frozen=True)
class RefitOptions:
    """How entries are held at zero."""

    ample: float = 1e10  # times the largest slope: a strength of the lasso that lets none go


def refit_kept(problem: Problem, loss: Loss, strength: float) -> Outcome:
    """The outcome of the fit without the lasso's path, its zeros held.

    Args:
        problem: of the path; `penalty` holds the grid.
        loss: at the lasso's estimate, with its penalty.
        strength: of the lasso, for the findings.
    """
    held = _holding(problem, loss, RefitOptions())
    found = minimize(held)
    problem = dataclasses.replace(
        problem, penalty=held.state.penalty, density=found.at.density, findings=[]
    )
    zeros = np.asarray(found.at.lasso) > 0
    covariance = problem.covariance_or_finding(lambda: _covariance(problem, found.at, ~zeros))
    what = (
        f"{zeros.sum()} entries are held at the zeros that a lasso of strength {strength:.4g} "
        "chose on the same data: the standard errors do not count that choice"
    )
    advice = "choose on one half of the rows and refit on the other, or use the bootstrap"
    problem.findings.append(Finding(what, advice, WARNING, FindingCode.NO_STANDARD_ERRORS))
    return Outcome(problem, found.at, found.converged, found.history, covariance)


def _holding(problem: Problem, loss: Loss, options: RefitOptions) -> Loss:
    """The loss whose lasso holds the zeros of the path's parameters, and leaves the rest free."""
    penalties, free = problem.penalty, loss.density.free()
    slopes = jax.grad(loss.mean)(loss.vector)
    ample = options.ample * (1 + jnp.max(jnp.abs(slopes)))
    held = {name: jnp.where(free[name] == 0, ample, 0.0) for name in penalties.moving}
    chosen = dataclasses.replace(penalties.at(0.0), lasso=penalties.lasso | held)
    return loss._replace(state=loss.state._replace(penalty=chosen))


def _covariance(problem: Problem, loss: Loss, kept: np.ndarray) -> Covariance:
    """The sandwich of the free entries, zero for those that are held."""
    if isinstance(loss.objective, CorrectsScores | DrawsRowNoise | DrawsSharedNoise):
        raise NoCovarianceError(
            f"{type(loss.objective).__name__} has errors from its own noise, which are not "
            "available for a part of the entries, so there are no standard errors",
            "use un.objectives.PseudoLikelihood, ScoreMatching or MaximumLikelihood",
        )
    psi, curvature = (np.asarray(part) for part in scores_and_curvature(loss))
    found = sandwich_of(psi[:, kept], curvature[np.ix_(kept, kept)], None, problem.clusters)
    place = np.eye(len(kept))[:, kept]
    return Covariance(*(place @ part @ place.T for part in found))


__all__ = ["refit_kept"]
