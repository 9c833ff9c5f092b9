"""The bootstrap of a fit: of rows or clusters, or parametric, of data sets drawn from the fit."""

from typing import Any

import jax
import numpy as np

from unnorm.core.findings import NOTE, WARNING, Finding, FindingCode
from unnorm.core.random_keys import make_key, split_keys
from unnorm.fitting.base import RefitsTogether
from unnorm.fitting.inference.bootstrap.refits import DEFAULTS, refit_all, refit_resamples
from unnorm.fitting.inference.bootstrap.result import Bootstrap, of_vectors
from unnorm.fitting.inference.sandwich import Covariance, NoCovarianceError
from unnorm.fitting.loss import Loss, scores_and_curvature
from unnorm.fitting.problem import Problem
from unnorm.fitting.simulation.data_sets import data_sets
from unnorm.numerics.diagonal_scaling import pseudo_inverse


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


def refit_simulations(
    objective,
    density,
    events: dict,
    key: jax.Array,
    replicates: int = DEFAULTS.replicates,
    penalty: Any = None,
) -> Any:
    """Fit data sets that are drawn from the density, each as large as the data.

    Args:
        objective: a per-example objective.
        density: the fitted density, bare, in the dtype of the fit.
        events: the data ``{name: (n, ...)}``: their number, and where the chains start.
        key: of the draws, and of what the objective draws.
        replicates: how many data sets.
        penalty: the fit's `Penalties`.

    Returns:
        The estimates (replicates, p) in the vector of all that is estimated (`parameters_of`), and
        which of them are finite and converged.
    """
    draw_key, key = split_keys(key)
    drawn = data_sets(density, events, draw_key, replicates)
    found = None
    if penalty is None and isinstance(objective, RefitsTogether):
        found = objective.refit_together(density, drawn)
    if found is not None and found[1].all():
        return found
    left = np.arange(replicates) if found is None else np.flatnonzero(~found[1])
    others = ({name: value[b] for name, value in drawn.items()} for b in left)
    estimates, kept = refit_all(objective, density, others, key, penalty)
    if found is None:
        return estimates, kept
    together, sure = map(np.array, found)
    together[left] = estimates if estimates.size else np.nan
    sure[left] = kept
    return together, sure


def parametric_covariance(loss: Loss, key: jax.Array) -> tuple[Covariance, Finding]:
    """The covariance of one observed lattice or graph, whose rows have no spread, and a finding
    that says so.

    The inverse curvature stands beside it, too small as it is.
    """
    objective, density, state, events = loss
    estimates, kept = refit_simulations(objective, density, events, key, penalty=state.penalty)
    if kept.mean() < DEFAULTS.least_finite:
        raise NoCovarianceError(
            f"{len(kept) - kept.sum()} of {len(kept)} data sets drawn from the fit have no finite "
            "estimate, so there are no standard errors",
            "fix or penalise the parameters that a data set of this size does not determine",
        )
    total = np.atleast_2d(np.cov(estimates[kept].T))
    rows, curvature = len(next(iter(events.values()))), np.asarray(scores_and_curvature(loss)[1])
    what = (
        f"the data are one row, so the covariance is that of {kept.sum()} of {len(kept)} data sets "
        "drawn from the fit"
    )
    what += "" if kept.all() else ", the others having no finite estimate"
    note = Finding(
        what,
        "read it as a parametric bootstrap: it holds if the model is true",
        NOTE if kept.mean() >= DEFAULTS.mostly_finite else WARNING,
        code=FindingCode.NO_FINITE_ESTIMATE,
    )
    return Covariance(total, np.zeros_like(total), pseudo_inverse(curvature) / rows), note
