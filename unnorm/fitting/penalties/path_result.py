"""What `un.path` returns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from unnorm.core.findings import Finding, Result
from unnorm.core.messages import table_text
from unnorm.core.validation import verb
from unnorm.fitting.edge_stability.result import EdgeStability
from unnorm.fitting.results.fit import Fit


@dataclass(frozen=True, repr=False, eq=False)
class Path(Result):
    """Fits along a path of lasso strengths.

    Attributes:
        coefficients: a DataFrame, one row for each strength (largest first), one column for each
            listed entry.
        extended_bic: 2 n loss + df log n + 4 γ df log p by strength; NaN where the loss is
            no likelihood.
        losses: the mean loss by strength, without penalties.
        best: the `Fit` at the smallest extended BIC, or None where there is none.
        penalised: the columns that the path moves.
    """

    coefficients: pd.DataFrame
    extended_bic: pd.Series
    losses: pd.Series
    best: Fit | None
    penalised: list[str]
    name: str
    objective: str
    findings: list[Finding] = field(default_factory=list)
    _without_lasso: Any = None  # (number of a strength) to the fit of the entries that it kept
    _stability: Any = None  # (edges, n, dropped, seed, progress) to their stability

    def refit(self, strength: float | None = None) -> Fit:
        """Fit the entries that the lasso kept again, without its shrinkage.

        θ̂ minimizes the mean loss with the lasso's zeros held; its standard errors do not count
        that the same data chose them, which a finding says.

        Args:
            strength: one of the path's; None: that of `best`.

        Returns:
            A `Fit`; the entries held at zero have the standard error 0.

        Raises:
            ValueError: a strength that is not on the path; None where there is no `best`.

        References:
            Belloni and Chernozhukov (2013), doi:10.3150/11-BEJ410.
        """
        grid = self.coefficients.index.to_numpy()
        if strength is None and self.best is None:
            raise ValueError(
                "refit was called without a strength, and the path has no best fit; expected a "
                "strength of the path; pass one of path.coefficients.index."
            )
        chosen = self.extended_bic.idxmin() if strength is None else strength
        at = int(np.argmin(np.abs(grid - chosen)))
        if not np.isclose(grid[at], chosen, rtol=1e-6):
            raise ValueError(
                f"strength is {strength!r}, which is not on the path; the nearest is "
                f"{grid[at]:.6g}; pass that one."
            )
        return self._without_lasso(at)

    @verb
    def edge_stability(
        self,
        edges: str,
        n: int = 1000,
        *,
        dropped: Any = None,
        seed: int = 0,
        progress: bool = True,
    ) -> EdgeStability:
        """The stability of the edges of `best`, as `Fit.edge_stability`, where every resample and
        every subset chooses the strength of the lasso again.

        Args:
            edges: as in `Fit.edge_stability`.
            n: as there.
            dropped: as there.
            seed: as there.
            progress: as there.

        Returns:
            `EdgeStability`.

        Raises:
            ValueError: as there; a path without an extended BIC, which has no `best`.

        References:
            Epskamp, Borsboom and Fried (2018), doi:10.3758/s13428-017-0862-1; van Borkulo et al.
            (2014), doi:10.1038/srep05918 (the extended BIC in networks).
        """
        if self.best is None:
            raise ValueError(
                "edge_stability was asked of a path without a best fit; it must have an extended "
                "BIC; use un.objectives.PseudoLikelihood, or fit.edge_stability of one strength."
            )
        return self._stability(edges, n, dropped, seed, progress)

    def _nonzero(self) -> pd.Series:
        return (self.coefficients[self.penalised] != 0).sum(axis=1)

    def __repr__(self) -> str:
        strengths = self.coefficients.index
        ends = f"{len(strengths)} strengths from {strengths[0]:.4g} to {strengths[-1]:.4g}"
        heading = f"Path of {self.name} by {self.objective}: {ends}"
        if self.best is None:
            return heading
        at = self.extended_bic.idxmin()
        size = f"{self._nonzero()[at]} of {len(self.penalised)} entries"
        return f"{heading}, best at {at:.4g} with {size}"

    def __str__(self) -> str:
        columns = {
            "nonzero": self._nonzero(),
            "loss": self.losses,
            "extended_bic": self.extended_bic,
        }
        table = pd.DataFrame(columns)
        table = table.set_axis([f"{at:.4g}" for at in self.coefficients.index])
        notes = [self._findings_text()] if self.findings else []
        return "\n".join(
            [repr(self), table_text(table.rename_axis("strength"), "strength"), *notes]
        )
