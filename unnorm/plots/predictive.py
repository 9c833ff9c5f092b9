"""Data against data sets simulated from a fit."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.display import more_rows
from unnorm.core.figures import (
    COLORS,
    INK,
    PALE,
    add_legend,
    mark_failure,
    new_figure,
    set_row_labels,
    set_text,
    tidy,
)
from unnorm.core.validation import verb
from unnorm.fitting.data.read import read_data
from unnorm.fitting.results.fit import Fit
from unnorm.fitting.simulation.simulate import simulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND, LINE = "#bcd6ea", COLORS[0]


@verb
def plot_predictive(
    fit: Fit,
    data: Any = None,
    *,
    replicates: int = 100,
    seed: int = 0,
    most: int = 12,
    progress: bool = True,
) -> "Figure":
    """Draw data against data sets of the same size that were simulated from the fit.

    Of two-valued variables the means, of counts and categories the shares, of continuous variables
    the empirical distribution functions, each beside the band that holds 90% of the simulated data
    sets. Data outside the band are what the fit does not explain.

    Args:
        fit: a fit that was made in this process.
        data: rows as `un.fit` takes them; None: those of the fit.
        replicates: how many data sets are simulated.
        seed: of the simulation.
        most: panels, and 40 times so many rows of means; more are counted.
        progress: show a bar where chains take long.

    Returns:
        A Matplotlib Figure.

    Raises:
        ValueError: what `un.simulate` and `un.fit` raise.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, field: field * x, {"x": un.Binary},
        ...     {"field": (un.Real, 0.0)})
        >>> fit = un.fit(p, [0, 1, 1, 1, 0], "maximum_likelihood", seed=0, progress=False)
        >>> len(un.plot_predictive(fit).axes)
        1

    References:
        Gelman, Meng and Stern (1996), Statistica Sinica 6, 733-760.
    """
    density: Any = fit.density
    given = None if data is None else read_data(density, data)[1]
    rows = None if given is None else len(next(iter(given.values())))
    tree = simulate(fit, rows=rows, replicates=replicates, seed=seed, progress=progress)
    simulated, observed = tree["posterior_predictive"], tree["observed_data"]
    panels: list[tuple] = []
    for name in map(str, simulated.data_vars):
        drawn = np.asarray(simulated[name])[0]
        actual = np.asarray(observed[name] if given is None or name not in given else given[name])
        panels += _panels(fit.density, name, drawn, actual)
    figure = _figure(panels[:most])
    for ax, (draw, *what) in zip(figure.axes, panels, strict=False):
        tidy(ax)
        draw(ax, *what)
    left = more_rows(len(panels), most).replace("rows", "entries")
    _legend(figure, replicates, left)
    mark_failure(figure, fit)
    return figure


def _panels(p: Any, name: str, drawn: np.ndarray, actual: np.ndarray) -> list[tuple]:
    """What to draw of a variable: its function and its arguments."""
    support = p.variables[name]
    states = support.states
    labels = _labels(p, name, actual.shape[1:])
    drawn, actual = (
        drawn.reshape(*drawn.shape[:2], -1),
        actual.reshape(len(actual), -1).astype(float),
    )
    if states is not None and np.size(states) == 2:
        free = [at for at in range(actual.shape[1]) if np.ptp(drawn[..., at]) or len(labels) == 1]
        return [(_means, name, [labels[at] for at in free], drawn[..., free], actual[:, free])]
    kind = _shares if support.discrete else _distribution
    return [
        (kind, label if len(labels) > 1 else name, drawn[..., at], actual[:, at])
        for at, label in enumerate(labels)
    ]


def _labels(p: Any, name: str, shape: tuple[int, ...]) -> list[str]:
    """The labels of a variable's entries, in C order."""
    axes = [p.labels.get(axis) for axis in p.variables[name].shape_axes]
    inside = [
        ",".join(str(i if label is None else label[i]) for i, label in zip(at, axes, strict=False))
        for at in np.ndindex(*shape)
    ]
    return [f"{name}[{one}]" if one else name for one in inside]


def _figure(panels: list[tuple]) -> "Figure":
    """Axes for the panels: means take the width, others three a row."""
    wide = any(panel[0] is _means for panel in panels)
    columns = 1 if wide else min(3, len(panels))
    rows = -(-len(panels) // columns)
    heights = [
        1.0 + 0.2 * min(len(panel[2]), 40) if panel[0] is _means else 2.3 for panel in panels
    ]
    tall = heights if wide else [2.3] * rows
    figure = new_figure(6.4 if columns < 3 else 8.4, sum(tall) + 0.6)
    for at in range(len(panels)):
        figure.add_subplot(rows, columns, at + 1)
    return figure


def _band(drawn: np.ndarray) -> np.ndarray:
    """The ends and the middle of what 90% of the data sets have."""
    return np.quantile(drawn, [0.05, 0.5, 0.95], axis=0)


def _means(ax: "Axes", name: str, labels: list[str], drawn: np.ndarray, actual: np.ndarray) -> None:
    """Means of two-valued entries, a row each; those that are furthest from the band first where
    there are many.
    """
    means = actual.mean(0)
    low, middle, high = _band(drawn.mean(1))
    order = np.arange(len(labels))
    if len(labels) > 40:
        spread = np.maximum(high - low, 1e-12)
        order = np.sort(np.argsort(-np.abs(means - middle) / spread, kind="stable")[:40])
    places = np.arange(len(order))[::-1]
    ax.hlines(places, low[order], high[order], color=BAND, linewidth=7)
    ax.plot(middle[order], places, "|", color=LINE, markersize=8)
    ax.plot(means[order], places, "o", color=INK, markersize=4, zorder=3)
    set_row_labels(ax, places, [labels[at] for at in order])
    left = more_rows(len(labels), 40)
    set_text(ax.set_xlabel, "mean" + (f"   ({left})" if left else ""), fontsize=8)
    set_text(ax.set_title, name, loc="left", fontsize=9)


def _shares(ax: "Axes", name: str, drawn: np.ndarray, actual: np.ndarray) -> None:
    """Shares of counts or categories; the last bar holds all larger values."""
    top = int(min(max(actual.max(), np.quantile(drawn, 0.999)), actual.min() + 30))
    values = np.arange(int(min(actual.min(), drawn.min())), top + 1)

    def share(x: np.ndarray) -> np.ndarray:
        clipped = np.minimum(x, top)
        return np.stack([(clipped == value).mean(-1) for value in values], -1)

    low, middle, high = _band(share(drawn))
    ax.vlines(values, low, high, color=BAND, linewidth=7)
    ax.plot(values, middle, "_", color=LINE, markersize=8)
    ax.plot(values, share(actual), "o", color=INK, markersize=4, zorder=3)
    ax.set_ylim(bottom=0)
    set_text(ax.set_ylabel, "share", fontsize=8)
    set_text(ax.set_title, name, 34, loc="left", fontsize=9)


def _distribution(ax: "Axes", name: str, drawn: np.ndarray, actual: np.ndarray) -> None:
    """Empirical distribution functions on a grid over both."""
    everything = np.concatenate([actual, np.quantile(drawn, [0.001, 0.999])])
    grid = np.linspace(everything.min(), everything.max(), 201)

    def cumulative(x: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.sort(x), grid, side="right") / len(x)

    low, middle, high = _band(np.stack([cumulative(one) for one in drawn]))
    ax.fill_between(grid, low, high, color=BAND, linewidth=0)
    ax.plot(grid, middle, color=LINE, linewidth=1, linestyle=(0, (4, 2)))
    ax.plot(grid, cumulative(actual), color=INK, linewidth=1.3)
    ax.set_ylim(0, 1)
    set_text(ax.set_ylabel, "share below", fontsize=8)
    set_text(ax.set_title, name, 34, loc="left", fontsize=9)


def _legend(figure: "Figure", replicates: int, left: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=INK, marker="o", markersize=4, linewidth=1.3, label="data"),
        Line2D([], [], color=BAND, linewidth=7, label=f"90% of {replicates} simulated data sets"),
        *([Line2D([], [], color=PALE, linewidth=0, label=left)] if left else []),
    ]
    add_legend(figure, handles, loc="outside upper right", ncols=len(handles))
