"""What `un.compare` returns."""

from dataclasses import dataclass, field

import pandas as pd

from unnorm.core.display import Card
from unnorm.core.findings import Finding, Result
from unnorm.core.messages import pluralize, significant, table_text

H_SCORE = "h_score (lower is better)"


@dataclass(repr=False)
class Comparison(Result):
    """Fits on held-out data, a row of `table` each; the findings say where the two criteria part,
    and what is missing.

    Attributes:
        table: the DataFrame that `un.compare` describes.
        rows: how many held-out rows there were.
        likelihood_ratio: of nested fits, on the rows that they were fitted to: a row for each pair
            (small, large) with the columns likelihood_ratio, degrees_of_freedom and p.
    """

    table: pd.DataFrame
    rows: int
    findings: list[Finding] = field(default_factory=list)
    likelihood_ratio: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __repr__(self) -> str:
        notes = [
            f"Comparison of {pluralize(len(self.table), 'fit')} on {pluralize(self.rows, 'row')}"
        ]
        for column, words, sign in (
            ("log_likelihood", "log-likelihood", 1),
            (H_SCORE, "H-score", -1),
        ):
            if column in self.table and self.table[column].notna().any():
                notes.append(f"the {words} is best for {(sign * self.table[column]).idxmax()}")
        return ": ".join([notes[0], ", ".join(notes[1:])]) if notes[1:] else notes[0]

    def __str__(self) -> str:
        table = table_text(self.table.dropna(axis=1, how="all").T)
        parts = [repr(self), table, *self._ratio_sentences()]
        return "\n".join([*parts, *([self._findings_text()] if self.findings else [])])

    def _ratio_sentences(self) -> list[str]:
        """The likelihood ratios, a sentence each."""
        return [
            f"likelihood ratio of {small} in {large}: {row.likelihood_ratio:.2f} on "
            f"{row.degrees_of_freedom:.0f} degrees of freedom, p = {significant(float(row.p))}"
            for (small, large), row in self.likelihood_ratio.iterrows()
        ]

    def _card(self) -> Card:
        table = self.table.dropna(axis=1, how="all").T.map(significant)
        facts = {
            sentence.partition(":")[0]: sentence.partition(": ")[2]
            for sentence in self._ratio_sentences()
        }
        return Card(repr(self), "passed" if self.passed else "not passed", facts, (("", table),))
