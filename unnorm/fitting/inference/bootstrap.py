"""What `Fit.bootstrap` returns: the estimates of many replicates, their spread and their
percentiles.
"""

from dataclasses import dataclass, field

import jax
import numpy as np
import pandas as pd

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, Result
from unnorm.core.messages import printed
from unnorm.fitting.inference.bootstrap_refits import parametric, resampled
from unnorm.fitting.inference.sandwich import listed_entries
from unnorm.fitting.problem import Problem
from unnorm.fitting.solvers.newton import parameters_of

# share of replicates with a finite estimate, below which percentiles are no longer those of all
_MOSTLY = 0.95


@dataclass(repr=False)
class Bootstrap(Result):
    """Estimates of replicated data sets.

    Attributes:
        fitted: the fit's own estimates, labelled.
        estimates: one row for each replicate whose estimate is finite, one column for each free
            entry.
        infinite: how many replicates have no finite estimate; they are left out and counted here.
        parametric: whether the replicates were drawn from the fit (one observed lattice or graph)
            or rows redrawn.
    """

    fitted: pd.Series
    estimates: pd.DataFrame
    infinite: int
    parametric: bool
    findings: list[Finding] = field(default_factory=list)

    @property
    def covariance(self) -> pd.DataFrame:
        """The covariance of the replicates' estimates."""
        return self.estimates.cov()

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """Estimates, bootstrap standard errors, and percentile intervals."""
        tail = (1 - level) / 2
        columns = {
            "estimate": self.fitted,
            "standard_error": self.estimates.std(),
            "lower": self.estimates.quantile(tail),
            "upper": self.estimates.quantile(1 - tail),
        }
        return pd.DataFrame(columns).rename_axis("parameter")

    def __repr__(self) -> str:
        kind = "parametric" if self.parametric else "of rows"
        return f"Bootstrap {kind}: {len(self.estimates)} replicates, {self.infinite} more without a finite estimate"

    def __str__(self) -> str:
        return "\n".join(
            [
                repr(self),
                printed(self.summary()),
                *([self._findings_text()] if self.findings else []),
            ]
        )


def bootstrapped(problem: Problem, density, state, fit, replicates: int, seed: int) -> Bootstrap:
    """Refit replicates of the data: drawn from the fit where one row was observed, rows or clusters
    redrawn else.
    """
    if problem.weights is not None:
        raise ValueError(
            "bootstrap was asked of a fit with sampling weights; expected none, or integers "
            "(frequencies); use "
            "the fit's own standard errors."
        )
    with jax.enable_x64(problem.is_double):
        given = (
            problem.objective,
            density,
            problem.events,
            jax.random.key(seed),
            replicates,
            problem.penalty,
        )
        if problem.rows == 1:
            return of_vectors(fit, density, state, *parametric(*given), parametric=True)
        return of_vectors(fit, density, state, *resampled(*given, problem.clusters))


def of_vectors(
    fit, density, state, vectors: np.ndarray, kept: np.ndarray, parametric: bool = False
) -> Bootstrap:
    """The replicates' vectors of all that is estimated, in the user's terms."""
    unravel, labels = parameters_of(density, state)[1], fit._labels()
    listed = jax.vmap(lambda vector: listed_entries(density, lambda v: unravel(v)[0], vector))
    rows = np.asarray(listed(vectors[kept])) if kept.any() else np.zeros((0, len(labels)))
    estimates = pd.DataFrame(rows, columns=labels)
    return Bootstrap(
        pd.Series(fit._estimates, labels), estimates, int((~kept).sum()), parametric, _told(kept)
    )


def _told(kept: np.ndarray) -> list[Finding]:
    if kept.all():
        return []
    what = f"{(~kept).sum()} of {len(kept)} replicates have no finite estimate and are left out"
    level = NOTE if kept.mean() >= _MOSTLY else WARNING if kept.any() else ERROR
    return [
        Finding(
            what,
            "read the intervals as conditional on a finite estimate, or penalise the parameters",
            level,
            code=FindingCode.NO_FINITE_ESTIMATE,
        )
    ]
