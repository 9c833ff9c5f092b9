"""Whether graphs drawn from a fit look like the observed one: degrees, shared partners, distances,
and the model's own statistics.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from unnorm.core.display import Card
from unnorm.core.figures import COLORS, INK, add_legend, new_figure, set_text, tidy
from unnorm.core.findings import WARNING, Finding, Result
from unnorm.core.messages import pluralize
from unnorm.core.validation import verb
from unnorm.fitting.inference.graph_statistics import model_statistics
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.simulation.simulate import simulate
from unnorm.statistics.graphs import degree_counts, distance_counts, shared_partner_counts
from unnorm.supports import Graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND, LINE = "#bcd6ea", COLORS[0]


@dataclass(frozen=True)
class GoodnessOfFitOptions:
    """What is said of a fit.

    Attributes:
        level: p-value of a distribution below which there is a warning; there are four or five of
            them, and a true model should seldom be warned of.
        ends: of the band of simulated graphs, as quantiles.
    """

    level: float = 0.01
    ends: tuple[float, float] = (0.025, 0.975)


OPTIONS = GoodnessOfFitOptions()


@dataclass(frozen=True)
class GoodnessOfFit(Result):
    """Observed graphs against graphs drawn from the fit.

    Attributes:
        table: what `summary()` returns.
        p_values: of each distribution as a whole. The largest distance of an entry from the mean of
            all graphs, in their standard deviations, is ranked among those of the simulated graphs.
        replicates: how many graphs were simulated.
        findings: a warning for each distribution that the model does not reproduce.
    """

    table: pd.DataFrame
    p_values: pd.Series
    replicates: int
    findings: list[Finding] = field(default_factory=list)

    def summary(self) -> pd.DataFrame:
        """A row for each entry of each distribution: the observed count, mean and band (95%) of the
        simulated ones, and the two-sided Monte Carlo p-value.
        """
        return self.table.copy()

    def plot(self) -> "Figure":
        """Draw each distribution: the observed counts over the band of the simulated ones."""
        names = list(dict.fromkeys(self.table.index.get_level_values("distribution")))
        figure = new_figure(8.4, 2.6 * -(-len(names) // 2) + 0.5)
        for at, name in enumerate(names):
            ax, part = figure.add_subplot(-(-len(names) // 2), 2, at + 1), self.table.loc[name]
            tidy(ax)
            places = np.arange(len(part))
            ax.vlines(places, part.lower, part.upper, color=BAND, linewidth=7)
            ax.plot(places, part["mean"], "_", color=LINE, markersize=8)
            ax.plot(places, part.observed, "o", color=INK, markersize=4, zorder=3)
            every = max(1, len(part) // 12)
            ax.set_xticks(places[::every], labels=[str(x) for x in part.index[::every]])
            title = f"{name} (p = {self.p_values[name]:.2g})"
            set_text(ax.set_title, title, loc="left", fontsize=9)
        _legend(figure, self.replicates)
        return figure

    def __repr__(self) -> str:
        p = ", ".join(f"{name} {value:.2g}" for name, value in self.p_values.items())
        return f"GoodnessOfFit by {pluralize(self.replicates, 'simulated data set')}: p of {p}"

    def __str__(self) -> str:
        parts = [repr(self), self.table.round(3).to_string()]
        return "\n".join([*parts, *([self._findings_text()] if self.findings else [])])

    def _card(self) -> Card:
        shown = self.table.round(3).astype(str)
        shown.index = pd.Index([f"{name} {value}" for name, value in shown.index])
        verdict = "warnings" if self.findings else "passed"
        return Card("Goodness of fit", verdict, {}, (("", shown),))


def _legend(figure: "Figure", replicates: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=INK, marker="o", markersize=4, linewidth=0, label="observed"),
        Line2D([], [], color=BAND, linewidth=7, label=f"95% of {replicates} simulated graphs"),
    ]
    add_legend(figure, handles, loc="outside upper right", ncols=2)


@verb
def goodness_of_fit(
    fit: Fit, *, replicates: int = 100, seed: int | None = None, progress: bool = True
) -> GoodnessOfFit:
    """Compare the observed graph with graphs drawn from the fit, in what the model was not fitted
    to.

    The counts of nodes by degree, of ties by their edgewise shared partners (nodes tied to both
    ends) and of pairs by geodesic distance, and the model's own statistics, each beside its
    distribution over simulated graphs: p = 2 min(share ≥ observed, share ≤ observed), at most 1. Of
    several observed graphs the counts are summed.

    Args:
        fit: of a density of one graph, made in this process.
        replicates: how many data sets are simulated.
        seed: an integer; None draws one.
        progress: show a bar where chains take long.

    Returns:
        `GoodnessOfFit`: `summary()`, `p_values`, `plot()`, `findings`.

    Raises:
        ValueError: the density is not of one graph; replicates is below 20; what `un.simulate`
            raises.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.models.exponential_random_graph("edges")
        >>> y = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
        >>> fit = un.fit(p, y[None], "maximum_likelihood", seed=0, progress=False)
        >>> found = un.goodness_of_fit(fit, seed=0, progress=False)
        >>> found.summary().loc[("degree", "2"), "observed"].item()
        2.0

    References:
        Hunter, Goodreau and Handcock (2008), doi:10.1198/016214507000000446; Besag and Clifford
        (1989), doi:10.1093/biomet/76.4.633 (Monte Carlo tests).
    """
    name = _graph_of(fit)
    if isinstance(replicates, bool) or not isinstance(replicates, int) or replicates < 20:
        raise ValueError(
            f"replicates is {replicates!r}; must be an integer of at least 20, for quantiles; pass "
            "100."
        )
    tree = simulate(fit, replicates=replicates, seed=seed, progress=progress)
    drawn = np.asarray(tree["posterior_predictive"][name], float)[0]
    observed = np.asarray(tree["observed_data"][name], float)
    graphs = np.concatenate([observed[None], drawn])  # the observed data set first
    tables, p_values = {}, {}
    for kind, (labels, values) in _distributions(graphs, fit).items():
        kept = np.flatnonzero(values.any(0)) if kind != "model" else np.arange(values.shape[1])
        tables[kind] = _table([labels[k] for k in kept], values[:, kept])
        p_values[kind] = _joint_p_value(values[:, kept])
    table = pd.concat(tables, names=["distribution", "value"])
    return GoodnessOfFit(table, pd.Series(p_values, name="p"), replicates, _findings(p_values))


def _graph_of(fit: Any) -> str:
    """The one variable, a graph."""
    if not isinstance(fit, Fit) or isinstance(fit.density, list):
        raise ValueError(
            f"goodness_of_fit was given {type(fit).__name__}; must be a fit of one density of a "
            "graph; pass what un.fit returns."
        )
    variables: Any = fit.density.variables
    if len(variables) != 1 or not isinstance(next(iter(variables.values())), type(Graph)):
        found = ", ".join(f"{name}: {support!r}" for name, support in variables.items())
        raise ValueError(
            f"goodness_of_fit compares graphs, and {fit.density.name} has {found}; must be one "
            "variable with the support un.Graph; use un.plot_predictive for others."
        )
    return next(iter(variables))


def _distributions(graphs: np.ndarray, fit: Any) -> dict[str, tuple[list[str], np.ndarray]]:
    """Labels and counts (data sets, values), the observed ones first; summed over the rows."""
    numbers = [str(k) for k in range(graphs.shape[-1] + 1)]
    size = graphs.shape[-1]
    found = {"degree": (numbers, degree_counts(graphs).sum(1))}
    if not np.array_equal(graphs, np.swapaxes(graphs, -1, -2)):  # directed
        incoming = degree_counts(np.swapaxes(graphs, -1, -2)).sum(1)
        found = {"out-degree": found["degree"], "in-degree": (numbers, incoming)}
    found["shared partners"] = (numbers, shared_partner_counts(graphs).sum(1))
    found["distance"] = ([*numbers[1:size], "none"], distance_counts(graphs).sum(1))
    statistics = model_statistics(graphs, fit.density)
    return found if statistics is None else found | {"model": statistics}


def _table(labels: list[str], values: np.ndarray) -> pd.DataFrame:
    observed, drawn = values[0], values[1:]
    above, below = (drawn >= observed).mean(0), (drawn <= observed).mean(0)
    lower, upper = np.quantile(drawn, OPTIONS.ends, axis=0)
    columns = {
        "observed": observed,
        "mean": drawn.mean(0),
        "lower": lower,
        "upper": upper,
        "p_value": np.minimum(1.0, 2 * np.minimum(above, below)),
    }
    return pd.DataFrame(columns, index=pd.Index(labels, name="value"))


def _joint_p_value(values: np.ndarray) -> float:
    """The rank of the observed data set's largest standardized distance among all of them, which
    are exchangeable where the model is true.
    """
    spread = values.std(0)
    varies = spread > 0
    if not varies.any():
        return 1.0
    away = np.abs(values[:, varies] - values[:, varies].mean(0)) / spread[varies]
    largest = away.max(1)
    return float(np.mean(largest >= largest[0] * (1 - 1e-12)))


def _findings(p_values: dict[str, float]) -> list[Finding]:
    """A warning for each distribution that the simulated graphs do not have."""
    return [
        Finding(
            f"the observed {kind} is not that of graphs drawn from the fit (p = {value:.2g})",
            "look at plot(), and add a statistic for what the model lacks",
            WARNING,
        )
        for kind, value in p_values.items()
        if value < OPTIONS.level
    ]


__all__ = ["GoodnessOfFit", "goodness_of_fit"]
