"""What a person reads of a fit: tables, matrices, tests, and its form in print."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unnorm.core.display import MOST, Card, more_rows, row_label
from unnorm.core.findings import Result
from unnorm.core.messages import choose_from
from unnorm.core.validation import verb
from unnorm.fitting.inference.information_criteria import likelihood_criteria
from unnorm.fitting.inference.wald import wald
from unnorm.fitting.results import tables
from unnorm.fitting.results.entries import entry_keys, free_places
from unnorm.supports.matrices import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ReadableFit(Result):
    """Base of `Fit`: its tables and how it is shown."""

    density: Any
    objective: str
    target: str
    log_z: Any
    rows: int
    _estimates: np.ndarray

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """The table of `Fit`."""
        raise NotImplementedError

    @verb
    def matrix(self, parameter: str, column: str = "estimate") -> Any:
        """One parameter in its own shape, with the labels of its dimensions.

        Args:
            parameter: its name.
            column: of `summary`: "estimate", "standard_error", "lower" or "upper".

        Returns:
            A DataFrame of a matrix (a symmetric one in full), a Series of a vector, a float of a
            scalar. Entries that are no free parameters, such as a zero diagonal, have their value
            as estimate and NaN in the other columns.

        Raises:
            ValueError: no such parameter or column; a network, or more than two axes.

        Example:
            >>> import unnorm as un
            >>> data = un.models.load("rochdale")[["Econ", "Age", "Child"]]
            >>> fit = un.fit(un.models.ising, data, "pseudo_likelihood", seed=0, progress=False)
            >>> fit.matrix("coupling").shape
            (3, 3)

        References:
            Wickham (2014), doi:10.18637/jss.v059.i10 (long and wide tables).
        """
        density = self._density_with(parameter)
        summary = self.summary()
        if column not in summary:
            raise ValueError(
                f"column is {column!r}; it must be a column of summary(); "
                f"{choose_from(column, summary.columns)}."
            )
        support, places = free_places(density, parameter)
        held = density.parameters[parameter]
        values = np.array(held, float) if column == "estimate" else np.full(np.shape(held), np.nan)
        rows = summary.index.get_level_values(0) == parameter
        for place, value in zip(places, summary[column][rows], strict=True):
            values[place] = value
            if isinstance(support, Matrix):
                values[*place[:-2], place[-1], place[-2]] = value
        if values.ndim == 0:
            return float(values)
        names = [axis if isinstance(axis, str) else None for axis in support.shape_axes]
        labels = [
            pd.Index(density.labels.get(axis, range(size)), name=name)
            for axis, size, name in zip(support.shape_axes, values.shape, names, strict=True)
        ]
        if values.ndim == 1:
            return pd.Series(values, labels[0], name=parameter)
        if values.ndim == 2:
            return pd.DataFrame(values, *labels)
        raise ValueError(
            f"{parameter} has {values.ndim} axes; it must have at most two for matrix; use "
            f"fit.summary().loc[{parameter!r}]."
        )

    def _density_with(self, parameter: str) -> Any:
        """The density that has this parameter, at its listed entries."""
        densities = self.density if isinstance(self.density, list) else [self.density]
        known = {key[0] for key in entry_keys(self.density)}
        if parameter not in known:
            raise ValueError(
                f"matrix was asked for {parameter!r}; it must be a parameter with listed entries; "
                f"{choose_from(parameter, known)}."
            )
        return next(p for p in densities if parameter in p.supports)

    @verb
    def wald(self) -> pd.DataFrame:
        """Wald tests of every entry against zero: z = estimate / standard error and the two-sided
        p, Student's where the intervals are.

        p is of one entry; many entries need a correction. An entry that cannot be below and above
        zero, such as a positive rate, has NaN. To compare nested models use the likelihood ratio of
        `un.compare`.

        Returns:
            A DataFrame like `summary()`, with the columns estimate, standard_error, z and p.

        Raises:
            ValueError: a fit that did not pass, without standard errors, or with a penalty or
                prior, whose estimates are shrunk.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(lambda x, *, mean: -0.5 * (x - mean) ** 2, {"x": un.Real},
            ...     {"mean": (un.Real, 0.0)})
            >>> data = [0.5, 1.0, 3.5, 3.0] * 50
            >>> fit = un.fit(p, data, "maximum_likelihood", seed=0, progress=False)
            >>> round(float(fit.wald().loc["mean", "z"]), 1)  # 2 / (1.2748 / √200)
            22.2

        References:
            Wald (1943), doi:10.1090/S0002-9947-1943-0012401-3.
        """
        return wald(self)

    # -- in print ----------------------------------------------------------------------------------
    @verb
    def to_latex(
        self,
        level: float = 0.95,
        *,
        names: Mapping[str, str] | None = None,
    ) -> str:
        r"""The table as a LaTeX tabular for the package booktabs, in which labels are plain text.

        Args:
            level: of the intervals.
            names: ``{parameter: name to print}``.

        Raises:
            ValueError: a name of no parameter.

        Example:
            >>> import unnorm as un
            >>> p = un.Density(lambda x, *, log_rate: -jnp.exp(log_rate) * x, {"x": un.Positive},
            ...     {"log_rate": (un.Real, 0.0)})
            >>> import jax.numpy as jnp
            >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0] * 50, "maximum_likelihood", seed=0,
            ...     progress=False)
            >>> print(fit.to_latex().splitlines()[4])
            log\_rate & $-$0.693 & 0.045 & $-$0.781 to $-$0.605 \\

        References:
            Fear (2020), Publication quality tables in LaTeX (the package booktabs).
        """
        table = tables.in_words(self.summary(level), level)
        return tables.latex(tables.with_names(table, names))

    @verb
    def to_csv(
        self,
        path: str | Path,
        level: float = 0.95,
        *,
        names: Mapping[str, str] | None = None,
    ) -> Path:
        """Write the table in full precision as CSV in UTF-8, columns named in words.

        Args:
            path: a file in an existing folder; an older one is replaced, whole or not at all.
            level: of the intervals.
            names: ``{parameter: name to print}``.

        Returns:
            The path.

        Raises:
            ValueError: a path that cannot be a file, a name of no parameter.

        Example:
            >>> import tempfile, unnorm as un
            >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive},
            ...     {"rate": (un.Positive, 1.0)})
            >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
            >>> fit.to_csv(tempfile.mkdtemp() + "/fit.csv").read_text().split(",")[:5]
            ['Parameter', 'i', 'j', 'Estimate', 'Standard error']

        References:
            Shafranovich (2005), RFC 4180.
        """
        table = tables.with_names(self.summary(level), names)
        return tables.write_text(tables.csv(table, level), path)

    def plot(self, **options: Any) -> "Figure":
        """Draw the forest of estimates and intervals: `un.plot_forest(fit)`."""
        import unnorm as un

        return un.plot_forest(self, **options)

    def _facts(self) -> dict[str, str]:
        """The header: sizes, criteria and the estimand."""
        criteria = {name: f"{value:,.2f}" for name, value in likelihood_criteria(self).items()}
        known = self.log_z if isinstance(self.log_z, list) else [self.log_z]
        numbers = [repr(z).removeprefix("log Z = ") for z in known if z is not None]
        return {
            "n": f"{self.rows:,}",
            **criteria,
            **({"log Z": "; ".join(numbers)} if numbers else {}),
            "objective": self.objective,
            "aims at": self.target,
        }

    def _card(self) -> Card:
        table = tables.in_words(self.summary(), 0.95)
        verdict = "passed" if self.passed else "not passed"
        shown = (("", table),) if len(table) else ()
        return Card(repr(self).partition(" by ")[0], verdict, self._facts(), shown)

    def __str__(self) -> str:
        parts = [repr(self), f"Aims at {self.target}."]
        criteria = [f"{name} {value:,.2f}" for name, value in likelihood_criteria(self).items()]
        parts += [", ".join(criteria)] if criteria else []
        table = tables.readable(self.summary().head(MOST.text))
        if len(table):
            parts.append(table.set_axis(map(row_label, table.index)).to_string())
        left = more_rows(len(self._estimates), MOST.text)
        parts += [f"... {left}"] if left else []
        known = self.log_z if isinstance(self.log_z, list) else [self.log_z]
        parts += [repr(log_z) for log_z in known if log_z is not None]
        return "\n".join(parts + ([self._findings_text()] if self.findings else []))
