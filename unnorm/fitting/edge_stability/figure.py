"""The figure of `EdgeStability`."""

from typing import TYPE_CHECKING, Any

import numpy as np

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def stability_figure(found: Any, correlation: float, most: int = 60) -> "Figure":
    """Draw the edges in the resamples, and the correlations of the subsets.

    Args:
        found: an `EdgeStability`.
        correlation: that the subsets should reach.
        most: edges that are drawn, the largest first.
    """
    table = found.summary()
    largest = np.sort(np.argsort(-table["estimate"].abs().to_numpy(), kind="stable")[:most])
    table = table.iloc[largest].sort_values("estimate", ascending=False, kind="stable")
    figure = new_figure(8.6, max(3.2, 0.9 + 0.17 * len(table)))
    left, right = figure.subplots(1, 2)
    _draw_edges(left, table)
    _draw_subsets(right, found.case_drop(correlation), correlation)
    more = len(found.fitted) - len(table)
    note = f"   ({more} smaller edges are not shown)" if more else ""
    set_text(left.set_xlabel, f"edge{note}", 90)
    set_text(left.set_title, f"{found.edges} in resampled rows", loc="left", fontsize=9)
    title = f"subsets of the rows: CS-coefficient {found.cs_coefficient():.2f}"
    set_text(right.set_title, title, loc="left", fontsize=9)
    mark_failure(figure, found)
    return figure


def _draw_edges(ax: "Axes", table: Any) -> None:
    """Percentile intervals, the resamples' means and the fit's own edges."""
    tidy(ax)
    ax.axvline(0, color=PALE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    places = np.arange(len(table))[::-1]
    ax.hlines(places, table["lower"], table["upper"], color=COLORS[0], linewidth=1.6,
              label="95% of resamples")  # fmt: skip
    ax.plot(table["mean"], places, "|", color=COLORS[0], markersize=7, label="their mean")
    ax.plot(table["estimate"], places, "o", color=INK, markersize=3, zorder=3, label="all rows")
    labels = [" – ".join(str(one) for one in key[1:] if one != "") for key in table.index]
    set_row_labels(ax, places, labels, 30)
    ax.tick_params(axis="y", labelsize=7)
    ax.set_ylim(-0.6, len(table) - 0.4)
    add_legend(ax, loc="lower right", fontsize=7)


def _draw_subsets(ax: "Axes", table: Any, correlation: float) -> None:
    """Mean and band of the correlations by the share dropped."""
    tidy(ax)
    shares = 100 * table.index.to_numpy()
    ax.fill_between(shares, table["lower"], table["upper"], color=COLORS[0], alpha=0.2, linewidth=0,
                    label="95% of subsets")  # fmt: skip
    ax.plot(shares, table["mean"], "o-", color=COLORS[0], markersize=4, label="their mean")
    ax.axhline(correlation, color=INK, linewidth=0.9, linestyle=(0, (4, 3)),
               label=f"correlation {correlation:g}")  # fmt: skip
    lost = table["infinite"] / table["subsets"]
    for share, at, part in zip(shares, table["mean"].fillna(0), lost, strict=True):
        if part > 0:
            ax.annotate(f"{part:.0%} without an estimate", (share, at), (0, -12), fontsize=6,
                        textcoords="offset points", ha="right")  # fmt: skip
    ax.set_ylim(min(0.0, float(np.nanmin([0.0, *table["lower"]]))), 1.02)
    set_text(ax.set_xlabel, "rows dropped, %")
    set_text(ax.set_ylabel, "correlation with the edges of all rows")
    add_legend(ax, loc="lower left", fontsize=7)
