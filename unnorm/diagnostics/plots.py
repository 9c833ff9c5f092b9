"""Figures of draws and of fitted densities: plain Matplotlib Figures, without pyplot and its global
state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import COLORS, PALE, new_figure, set_text, tidy
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
