"""Figures of draws and of fitted densities: plain Matplotlib Figures, without pyplot and its global
state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import COLORS, INK, PALE, new_figure, set_text, tidy
from unnorm.diagnostics.draws import read_draws

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_trace(draws: Any, names: Sequence[str] | None = None) -> "Figure":
    """Draw the trace of each scalar entry, one colour per chain, and its histogram beside it.

    Args:
        draws: what `un.sample` returns, or anything that `un.diagnose` takes.
        names: entries by label (``x[Ozone]``) or whole variables (``x``); left out, the first 12
            entries.

    Returns:
        A Figure; save it with ``figure.savefig(path)``.

    Raises:
        ValueError: a name that the draws do not hold.

    Example:
        >>> import numpy as np
        >>> from unnorm.diagnostics.plots import plot_trace
        >>> figure = plot_trace({"x": np.random.default_rng(0).normal(size=(4, 200))})
        >>> len(figure.axes)
        2
    """
    columns, left = _select(draws, names)
    figure, axes = _grid(len(columns), {"width_ratios": [5, 1]}, 2)
    for (trace, side), (label, value) in zip(axes, columns.items(), strict=True):
        two_valued = len(np.unique(value)) == 2
        set_text(trace.set_ylabel, f"{label}\n(running mean)" if two_valued else label)
        trace.tick_params(labelbottom=trace is axes[-1, 0])
        if two_valued:  # its trace would be a block of ink
            _trace(trace, np.cumsum(value, 1) / np.arange(1, value.shape[1] + 1), 1.2)
            side.set_axis_off()
            continue
        _trace(trace, value)
        _margin(side, value)
        side.sharey(trace)
        side.tick_params(labelleft=False)
        side.set_xticks([])
    axes[-1, 0].set_xlabel(_more("draw", left))
    _chain_legend(figure, next(iter(columns.values())).shape[0])
    return figure


def plot_rank(draws: Any, names: Sequence[str] | None = None) -> "Figure":
    """Draw the histogram of each chain's ranks among the draws of all chains: flat where the chains
    agree.

    Args:
        draws: what `un.sample` returns, or anything that `un.diagnose` takes.
        names: entries by label (``x[Ozone]``) or whole variables (``x``); left out, the first 12
            entries.

    Returns:
        A Figure; save it with ``figure.savefig(path)``.

    Raises:
        ValueError: a name that the draws do not hold.

    References:
        Vehtari et al. (2021), Bayesian Analysis 16, 667-718, arXiv:1903.08008.
    """
    columns, left = _select(draws, names)
    figure, axes = _grid(len(columns), {}, 1)
    rng = np.random.default_rng(0)
    for (ax,), (label, value) in zip(axes, columns.items(), strict=True):
        ranks = _ranks(value, rng)
        bins = min(20, max(2, value.shape[1] // 5))
        ax.axhline(1, color=PALE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for color, chain in zip(_colors(len(value)), ranks, strict=True):
            heights, edges = np.histogram(chain, bins, range=(0, 1))
            ax.stairs(
                heights * bins / chain.size,
                edges,
                baseline=None,
                color=color,
                linewidth=1.5,
                zorder=2,
            )
        ax.set_xlim(0, 1)
        ax.set_ylim(0, max(2.0, ax.get_ylim()[1]))
        set_text(ax.set_ylabel, label)
        ax.tick_params(labelbottom=ax is axes[-1, 0])
    axes[-1, 0].set_xlabel(
        _more("rank among all draws (1: the largest); dashed: chains that agree", left)
    )
    _chain_legend(figure, len(value))
    return figure


def scatter_with_contours(
    data: Any,
    draws: Any = None,
    log_density_grid: tuple[Any, Any, Any] | None = None,
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    masses: Sequence[float] = (0.5, 0.8, 0.95),
) -> "Figure":
    """Draw two-dimensional data, draws beside them, and the regions of highest density that hold
    the given masses.

    Args:
        data: an array (n, 2), or a DataFrame of two columns, whose names become the axes'.
        draws: an array (m, 2), or None.
        log_density_grid: ``(x, y, values)``, evenly spaced axes and the normalized log-density,
            values[i, j] at (x[i], y[j]).
        names: names of the two axes.
        title: stands above.
        masses: the probability inside each contour.

    Returns:
        A Figure.

    Raises:
        ValueError: a wrong shape, or a log-density that is not normalized.
    """
    figure = new_figure(6.0, 5.0)
    ax = figure.add_subplot()
    tidy(ax)
    names = names or (list(map(str, data.columns)) if hasattr(data, "columns") else ("x", "y"))
    data = _pairs(data, "data")
    if log_density_grid is not None:
        x, y, values = map(np.asarray, log_density_grid)
        _contours(ax, x, y, values, sorted(masses))
    if draws is not None:
        ax.plot(
            *_pairs(draws, "draws").T,
            ".",
            color=COLORS[1],
            markersize=5,
            alpha=0.45,
            label="draws",
            mew=0,
        )
    ax.plot(
        *data.T,
        "o",
        color=INK,
        markersize=4,
        alpha=0.75,
        mec="white",
        mew=0.5,
        label="data",
        zorder=3,
    )
    set_text(ax.set_xlabel, names[0])
    set_text(ax.set_ylabel, names[1])
    set_text(ax.set_title, title, loc="left", color=INK)
    ax.legend(frameon=False, loc="best", markerscale=1.5)
    return figure


def _pairs(value: Any, name: str) -> np.ndarray:
    value = np.asarray(value, float)
    if value.ndim != 2 or value.shape[1] != 2:
        raise ValueError(f"{name} has the shape {value.shape}; expected (n, 2); pass two columns.")
    return value


def _contours(
    ax: "Axes", x: np.ndarray, y: np.ndarray, values: np.ndarray, masses: Sequence[float]
) -> None:
    """Contours at the levels above which the density holds each mass."""
    if values.shape != (len(x), len(y)):
        raise ValueError(
            f"log_density_grid has values of shape {values.shape}; expected {(len(x), len(y))}; "
            "transpose it if its axes are exchanged."
        )
    density = np.exp(values)
    descending = np.sort(density, axis=None)[::-1]
    held = np.cumsum(descending) * (x[1] - x[0]) * (y[1] - y[0])
    shown = [mass for mass in masses if mass < held[-1]]
    if not shown or not held[-1] < 1.05:
        raise ValueError(
            f"log_density_grid holds the mass {held[-1]:.3g}; expected about 1; subtract log Z, "
            "or widen the grid."
        )
    levels = {
        float(descending[np.searchsorted(held, mass)]): f"{mass:.0%}" for mass in reversed(shown)
    }
    filled = [*levels, float(density.max()) * 1.001]
    blues = ("#e3eef7", "#c3dbee", "#9dc4e2", "#78acd3", "#5594c4")
    ax.contourf(x, y, density.T, levels=filled, colors=blues[: len(levels)], zorder=0)
    lines = ax.contour(
        x, y, density.T, levels=list(levels), colors=COLORS[0], linewidths=1.1, zorder=1
    )
    ax.clabel(lines, fmt=levels, fontsize=8)


def _select(
    draws: Any, names: Sequence[str] | None, most: int = 12
) -> tuple[dict[str, np.ndarray], int]:
    """The entries to draw, and how many were left out."""
    found = read_draws(draws)
    columns, labels = found.columns(), found.labels()
    if names is None:
        return dict(list(columns.items())[:most]), max(len(columns) - most, 0)
    wanted = []
    for name in [names] if isinstance(names, str) else names:
        if name not in columns and name not in labels:
            raise ValueError(
                f"names holds {name!r}, which the draws do not; expected {', '.join(columns)}; "
                "choose from these."
            )
        wanted += labels.get(name, [name])
    return {label: columns[label] for label in wanted}, 0


def _more(label: str, left: int) -> str:
    return f"{label}    ({left} more entries are not shown)" if left else label


def _grid(rows: int, ratios: dict, columns: int) -> tuple["Figure", np.ndarray]:
    figure = new_figure(8.0, 0.9 + 1.35 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios)
    for ax in axes.flat:
        tidy(ax)
    return figure, axes


def _colors(chains: int) -> list:
    if chains <= len(COLORS):
        return list(COLORS[:chains])
    from matplotlib import colormaps

    return list(colormaps["cividis"](np.linspace(0, 0.95, chains)))


def _trace(ax: "Axes", value: np.ndarray, width: float = 0.6, most: int = 1000) -> None:
    every = max(1, -(-value.shape[1] // most))  # more points cannot be distinguished on a page
    place = np.arange(0, value.shape[1], every)
    for color, chain in zip(_colors(len(value)), value, strict=True):
        ax.plot(place, chain[::every], color=color, linewidth=width, alpha=0.8)
    ax.set_xlim(0, max(value.shape[1] - 1, 1))


def _margin(ax: "Axes", value: np.ndarray) -> None:
    """Each chain's histogram, on bins that all chains share; integers have a bin each."""
    finite = value[np.isfinite(value)]
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    integers = bool((finite == np.round(finite)).all()) and high - low <= 60
    edges = (
        np.arange(low - 0.5, high + 1)
        if integers
        else np.linspace(low, high if high > low else low + 1, 31)
    )
    for color, chain in zip(_colors(len(value)), value, strict=True):
        heights, _ = np.histogram(chain[np.isfinite(chain)], edges, density=True)
        ax.stairs(heights, edges, orientation="horizontal", color=color, linewidth=1.1)
    ax.set_xlim(left=0)


def _ranks(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ranks in (0, 1) among all draws; ties, as between binary draws, are broken at random, which
    keeps them flat.
    """
    order = np.lexsort((rng.random(value.size), value.ravel()))
    ranks = np.empty(value.size)
    ranks[order] = (np.arange(value.size) + 0.5) / value.size
    return ranks.reshape(value.shape)


def _chain_legend(figure: "Figure", chains: int) -> None:
    if not 1 < chains <= len(COLORS):
        return
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, linewidth=2, label=f"chain {c}")
        for c, color in enumerate(_colors(chains))
    ]
    figure.legend(
        handles=handles, loc="outside upper right", ncols=chains, frameon=False, fontsize=8
    )
