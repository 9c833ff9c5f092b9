"""What `Fit.bootstrap` returns: the estimates of many replicates, their spread and their
percentiles.
"""

from dataclasses import dataclass, field

import jax
import numpy as np
import pandas as pd

from unnorm.core.findings import ERROR, NOTE, WARNING, Finding, FindingCode, Result
from unnorm.core.messages import pluralize, table_text
from unnorm.fitting.inference.bootstrap.refits import DEFAULTS
from unnorm.fitting.inference.delta_method import free_entries
from unnorm.fitting.loss import Loss


@dataclass(frozen=True, repr=False, eq=False)
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
            "estimate": self.fitted.to_numpy(),
            "standard_error": self.estimates.std().to_numpy(),
            "lower": self.estimates.quantile(tail).to_numpy(),
            "upper": self.estimates.quantile(1 - tail).to_numpy(),
        }
        return pd.DataFrame(columns, index=self.fitted.index)

    def __repr__(self) -> str:
        kind = "parametric" if self.parametric else "of rows"
        return (
            f"Bootstrap {kind}: {len(self.estimates)} replicates, {self.infinite} more without a "
            "finite estimate"
        )

    def __str__(self) -> str:
        return "\n".join(
            [
                repr(self),
                table_text(self.summary()),
                *([self._findings_text()] if self.findings else []),
            ]
        )


def of_vectors(
    fit, loss: Loss, vectors: np.ndarray, kept: np.ndarray, parametric: bool = False
) -> Bootstrap:
    """The replicates' vectors of all that is estimated, in the user's terms."""
    labels = fit._labels()
    entries = jax.vmap(lambda vector: free_entries(loss.density, loss.free_at, vector))
    rows = np.asarray(entries(vectors[kept])) if kept.any() else np.zeros((0, len(labels)))
    return Bootstrap(
        pd.Series(fit._estimates, fit._index()),
        pd.DataFrame(rows, columns=labels),
        int((~kept).sum()),
        parametric,
        _findings(kept),
    )


def _findings(kept: np.ndarray) -> list[Finding]:
    return _of_few(int(kept.sum())) + _of_infinite(kept)


def _of_few(replicates: int) -> list[Finding]:
    if replicates >= DEFAULTS.least_for_percentiles:
        return []
    what = (
        f"the bootstrap has {pluralize(replicates, 'replicate')}, too few for intervals of 95%, "
        "whose ends lie beyond the smallest and the largest"
    )
    advice = f"take at least {DEFAULTS.least_for_percentiles}, better {DEFAULTS.replicates}"
    return [Finding(what, advice, WARNING, code=FindingCode.TOO_FEW_DRAWS)]


def _of_infinite(kept: np.ndarray) -> list[Finding]:
    if kept.all():
        return []
    what = f"{(~kept).sum()} of {len(kept)} replicates have no finite estimate and are left out"
    level = NOTE if kept.mean() >= DEFAULTS.mostly_finite else WARNING if kept.any() else ERROR
    return [
        Finding(
            what,
            "read the intervals as conditional on a finite estimate, or penalise the parameters",
            level,
            code=FindingCode.NO_FINITE_ESTIMATE,
        )
    ]
