"""Edges of a network in resampled rows and in subsets of the rows: tables and verdicts."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unnorm.core.display import Card
from unnorm.core.findings import Finding, Result
from unnorm.core.messages import format_table, table_text
from unnorm.fitting.edge_stability.figure import stability_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class StabilityOptions:
    """Which subsets are drawn, and what is said of a network.

    Attributes:
        dropped: shares of the rows that are left out; bootnet's ten.
        correlation, probability: of the CS-coefficient, as Epskamp, Borsboom and Fried define it.
        doubtful: CS-coefficient below which they advise not to interpret a network.
        subsets: of a share, so that a probability of .95 is 19 of 20.
        finite: share of resamples below which percentiles are not those of all.
    """

    dropped: tuple[float, ...] = tuple(float(s) for s in np.linspace(0.05, 0.75, 10))
    correlation: float = 0.7
    probability: float = 0.95
    doubtful: float = 0.25
    subsets: int = 20
    finite: float = 0.95


OPTIONS = StabilityOptions()


@dataclass(frozen=True, repr=False, eq=False)
class EdgeStability(Result):
    """Edges of a network in resampled rows and in subsets of the rows.

    Attributes:
        edges: the name of the matrix.
        fitted: the fit's own edges, labelled.
        estimates: one row for each resample whose estimate is finite, one column for each edge.
        correlations: one row for each subset: the share of the rows that was dropped, and the
            correlation of its edges with the fit's own; NaN where it has no finite estimate.
        infinite: how many resamples have no finite estimate.
    """

    edges: str
    fitted: pd.Series
    estimates: pd.DataFrame
    correlations: pd.DataFrame
    infinite: int
    findings: list[Finding] = field(default_factory=list)

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """Every edge in the resamples: mean, standard deviation, percentiles, and the shares in
        which it is not zero (`selected`) and has the sign of the estimate (`same_sign`; of an
        estimate of zero: is zero).
        """
        tail, drawn = (1 - level) / 2, self.estimates.to_numpy()
        columns = {
            "estimate": self.fitted.to_numpy(),
            "mean": self.estimates.mean().to_numpy(),
            "standard_error": self.estimates.std().to_numpy(),
            "lower": self.estimates.quantile(tail).to_numpy(),
            "upper": self.estimates.quantile(1 - tail).to_numpy(),
            "selected": (drawn != 0).mean(0),
            "same_sign": (np.sign(drawn) == np.sign(self.fitted.to_numpy())).mean(0),
        }
        return pd.DataFrame(columns, index=self.fitted.index)

    def case_drop(self, correlation: float = OPTIONS.correlation) -> pd.DataFrame:
        """The subsets by the share of rows that was dropped: how many, how many of them have no
        finite estimate, the mean and the 2.5% and 97.5% quantiles of the others' correlations, and
        the share of all subsets that reach `correlation`.
        """
        by_share = self.correlations.groupby("dropped")["correlation"]
        columns = {
            "subsets": by_share.size(),
            "infinite": by_share.size() - by_share.count(),
            "mean": by_share.mean(),
            "lower": by_share.quantile(0.025),
            "upper": by_share.quantile(0.975),
            "reaches": by_share.apply(lambda one: float((one >= correlation).mean())),
        }
        return pd.DataFrame(columns)

    def cs_coefficient(
        self,
        correlation: float = OPTIONS.correlation,
        probability: float = OPTIONS.probability,
    ) -> float:
        """The largest share of rows that can be dropped so that the edges' correlation with those
        of all rows is at least `correlation` with at least this probability; 0 where none can.

        It is one of the shares that were tried, and all smaller ones hold too: the coefficient
        itself lies between it and the next.
        """
        holds = self.case_drop(correlation)["reaches"] >= probability
        first = int(np.argmin(holds.to_numpy())) if not holds.all() else len(holds)
        return float(holds.index[first - 1]) if first else 0.0

    def plot(self) -> "Figure":
        """Draw the edges with their percentiles, and the correlations of the subsets by the share
        dropped.
        """
        return stability_figure(self, OPTIONS.correlation)

    def __repr__(self) -> str:
        return (
            f"EdgeStability of {self.edges}: {len(self.fitted)} edges, {len(self.estimates)} "
            f"resamples, {len(self.correlations)} subsets, CS-coefficient "
            f"{self.cs_coefficient():.2f}"
        )

    def __str__(self) -> str:
        notes = [self._findings_text()] if self.findings else []
        tables = table_text(self.summary(), "edge"), table_text(self.case_drop())
        return "\n".join([repr(self), *tables, *notes])

    def _card(self) -> Card:
        facts = {
            "resamples": f"{len(self.estimates):,}",
            "subsets": f"{len(self.correlations):,}",
            "CS-coefficient": f"{self.cs_coefficient():.2f} (correlation "
            f"{OPTIONS.correlation:g}, probability {OPTIONS.probability:g})",
        }
        dropped = self.case_drop().set_axis(
            [f"{share:.0%} dropped" for share in self.case_drop().index]
        )
        verdict = "passed" if self.passed else "not passed"
        tables = (("Resampled rows", self.summary()), ("Subsets of the rows", dropped))
        return Card(
            f"Stability of the edges {self.edges}",
            verdict,
            facts,
            tuple((caption, format_table(table)) for caption, table in tables),
        )
