"""The bootstrap of a fit: of rows or clusters, or parametric where one row was observed."""

import jax

from unnorm.core.random_keys import make_key
from unnorm.fitting.inference.bootstrap.parametric import refit_simulations
from unnorm.fitting.inference.bootstrap.refits import refit_resamples
from unnorm.fitting.inference.bootstrap.result import Bootstrap, of_vectors
from unnorm.fitting.loss import Loss
from unnorm.fitting.problem import Problem


def bootstrap(problem: Problem, loss: Loss, fit, replicates: int, seed: int) -> Bootstrap:
    """Refit replicates of the data: simulated from the fit where one row was observed, else rows or
    clusters resampled.
    """
    if problem.weights is not None:
        raise ValueError(
            "bootstrap was asked of a fit with sampling weights; expected no weights, or "
            "frequency weights; use the fit's own standard errors."
        )
    with jax.enable_x64(problem.is_double):
        given = (
            problem.objective,
            loss.density,
            problem.events,
            make_key(seed),
            replicates,
            problem.penalty,
        )
        if problem.rows == 1:
            vectors, kept = refit_simulations(*given)
            return of_vectors(fit, loss, vectors, kept, parametric=True)
        return of_vectors(fit, loss, *refit_resamples(*given, problem.clusters))
