"""Estimates and intervals, a row for each entry."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.display import more_rows
from unnorm.core.figures import (
    COLORS,
    INK,
    PALE,
    mark_failure,
    new_figure,
    plain,
    set_row_labels,
    set_text,
    tidy,
)
from unnorm.core.validation import verb
from unnorm.fitting.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@verb
def plot_forest(fit: Fit, *, level: float = 0.95, most: int = 60) -> "Figure":
    """Draw estimates (dots) and intervals (lines), a panel for each parameter.

    A hollow dot has no standard error; an arrow points to an estimate or an end beyond the panel.

    Args:
        fit: what `un.fit` returned.
        level: of the intervals.
        most: rows that are drawn; more are counted below.

    Returns:
        A Matplotlib Figure; save it by ``figure.savefig(path)``.

    Raises:
        ValueError: a fit without listed entries, such as one of a network alone.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive},
        ...     {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
        >>> len(un.plot_forest(fit).axes)
        1

    References:
        Lewis and Clarke (2001), doi:10.1136/bmj.322.7300.1479 (forest plots).
    """
    table = fit.summary(level)
    if not len(table):
        raise ValueError(
            f"plot_forest was given a fit of {fit!r:.80} without listed entries; it must have "
            "parameters other than networks; plot its draws instead."
        )
    shown = table.head(most)
    names = list(dict.fromkeys(shown.index.get_level_values(0)))
    rows = [int((shown.index.get_level_values(0) == name).sum()) for name in names]
    figure = new_figure(5.6, 0.7 + 0.22 * sum(rows) + 0.55 * len(names))
    axes = figure.subplots(
        len(names), 1, squeeze=False, gridspec_kw={"height_ratios": [n + 1.2 for n in rows]}
    )[:, 0]
    for ax, name in zip(axes, names, strict=True):
        part = shown[shown.index.get_level_values(0) == name]
        _panel(ax, name, part, _row_names(part))
    left = more_rows(len(table), most)
    note = f"estimate and {100 * level:g}% interval" + (f"   ({left})" if left else "")
    set_text(axes[-1].set_xlabel, note, 90, fontsize=8)
    mark_failure(figure, fit)
    return figure


def _row_names(part: "pd.DataFrame") -> list[str]:
    """The labels of a parameter's entries without its name."""
    return [", ".join(str(one) for one in key[1:] if one != "") for key in part.index]


def _panel(ax: "Axes", name: str, part: "pd.DataFrame", labels: list[str]) -> None:
    tidy(ax)
    ax.spines["left"].set_visible(False)
    low, high = _limits(part)
    places = np.arange(len(part))[::-1]
    if low < 0 < high:
        ax.axvline(0, color=PALE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    for place, row in zip(places, part.itertuples(), strict=True):
        _row(ax, place, row, low, high)
    ax.set_xlim(low, high)
    ax.set_ylim(-0.6, len(part) - 0.4)
    set_row_labels(ax, places, labels)
    set_text(ax.set_title, name, loc="left", fontsize=9, fontweight="bold", color=INK)


def _limits(part: "pd.DataFrame") -> tuple[float, float]:
    """What a panel shows: all finite ends, but no end far beyond the estimates."""
    estimates, ends = part["estimate"].to_numpy(), part[["lower", "upper"]].to_numpy().ravel()
    core = estimates[np.isfinite(estimates)]
    core = core if core.size else np.zeros(1)
    errors = part["standard_error"].to_numpy()
    errors = errors[np.isfinite(errors)]
    typical = 4 * np.median(errors) if errors.size else 0.0
    reach = max(np.ptp(core), typical, 0.1 * np.abs(core).max(), 1e-12)
    ends = ends[np.isfinite(ends)]
    ends = ends[(ends > core.min() - 3 * reach) & (ends < core.max() + 3 * reach)]
    low, high = min([*core, *ends]), max([*core, *ends])
    pad = 0.06 * (high - low) or 0.1 * reach
    return float(low - pad), float(high + pad)


def _row(ax: "Axes", place: float, row: Any, low: float, high: float) -> None:
    """One interval with its dot; arrows where something lies outside."""
    color, known = COLORS[0], np.isfinite([row.lower, row.upper])
    if not np.isnan([row.lower, row.upper]).any():
        ends = np.clip([row.lower, row.upper], low, high)
        ax.plot(ends, [place, place], color=color, linewidth=1.6, solid_capstyle="butt")
        for end, given, mark in zip(ends, (row.lower, row.upper), "<>", strict=True):
            if end != given:
                ax.plot(end, place, mark, color=color, markersize=5, clip_on=False)
    if np.isfinite(row.estimate):
        fill = color if known.all() else "white"
        ax.plot(row.estimate, place, "o", color=color, mfc=fill, markersize=5, zorder=3)
    elif not np.isnan(row.estimate):
        inset = 0.02 * (high - low)
        at, mark, side = (
            (high - inset, ">", "right") if row.estimate > 0 else (low + inset, "<", "left")
        )
        ax.plot(at, place, mark, color=COLORS[1], markersize=7, clip_on=False)
        sign = "" if row.estimate > 0 else "−"
        ax.annotate(
            **_text(f"{sign}∞: no finite estimate"), xy=(at, place), ha=side, va="center",
            xytext=(-8 if side == "right" else 8, 0), textcoords="offset points", fontsize=7,
        )  # fmt: skip
    else:
        ax.annotate(
            **_text("no estimate"), xy=((low + high) / 2, place), ha="center", va="center",
            fontsize=7,
        )  # fmt: skip


def _text(words: str) -> dict[str, Any]:
    shown = plain(words)
    return {"text": shown["s"], "parse_math": False}
