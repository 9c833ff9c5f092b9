"""A fit, refitted as it was made to resamples and subsets of its rows."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import pandas as pd

from unnorm.core.findings import NOTE, Finding
from unnorm.fitting.base import Stochastic
from unnorm.fitting.edge_stability.stability import stability_of
from unnorm.fitting.inference.bootstrap.refits import refit_rows
from unnorm.fitting.inference.bootstrap.result import of_vectors
from unnorm.fitting.problem import Problem


def edge_stability(fit: Any, edges: str, n: int, dropped: Any, seed: int, progress: bool) -> Any:
    """The `EdgeStability` of a fit."""
    problem, loss = _refittable(fit)

    def refit(chosen: Iterable[np.ndarray], key: jax.Array) -> tuple[pd.DataFrame, np.ndarray]:
        given = problem.objective, loss.density, problem.events, chosen, key, problem.penalty
        vectors, finite = refit_rows(*given)
        return of_vectors(fit, loss, vectors, finite).estimates, finite

    notes = []
    if problem.penalty is not None and problem.penalty.lasso:
        what = "every resample has the fit's own strength of the lasso"
        advice = "where the data chose it, use un.path(...).edge_stability, which chooses it again"
        notes = [Finding(what, advice, NOTE)]
    return stability_of(fit, problem, edges, refit, n, dropped, seed, progress, notes)


def _refittable(fit: Any) -> tuple[Problem, Any]:
    """The problem of a fit that can be repeated on other rows, and the loss at the estimate."""
    if fit._parts is not None:
        raise ValueError(
            f"edge_stability was asked of a fit of {len(fit._parts)} data sets; it must be of one; "
            "fit them one by one."
        )
    if fit._origin is None or fit._refit is None:
        raise ValueError(
            f"edge_stability was asked of a fit by {fit.objective} that cannot be repeated here; "
            "it must be made in this process on all rows at once; fit again without batch_size, "
            "steps and optimizer."
        )
    problem, loss = fit._origin
    if isinstance(problem.objective, Stochastic):
        raise ValueError(
            f"edge_stability was asked of a fit by {fit.objective}, whose chains would run again "
            "for every subset; it must be by an objective with a loss; use "
            "un.objectives.PseudoLikelihood, ScoreMatching or MaximumLikelihood."
        )
    return problem, loss
