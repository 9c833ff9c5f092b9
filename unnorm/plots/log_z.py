"""Estimates of log Z side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import (
    COLORS,
    INK,
    PALE,
    add_legend,
    new_figure,
    set_row_labels,
    set_text,
    tidy,
)
from unnorm.core.validation import verb
from unnorm.partition.base import LogZ

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEEDS = "a LogZ, a list of them, or a dict of them by name"


@verb
def plot_log_z(z: LogZ | Sequence[LogZ] | Mapping[str, LogZ], *, level: float = 0.95) -> "Figure":
    """Draw estimates of log Z with their intervals, and stochastic bounds where there are some.

    A filled dot passed, a cross did not; a square is exact; brackets are bounds.

    Args:
        z: what `un.log_z` returned, a list of such, or a dict by name.
        level: of the intervals.

    Returns:
        A Matplotlib Figure.

    Raises:
        ValueError: something else, or nothing.

    Example:
        >>> import unnorm as un
        >>> z = un.log_z(un.Density(lambda x: -0.5 * x**2, {"x": un.Real}), seed=0)
        >>> len(un.plot_log_z(z).axes)
        1

    References:
        Gelman and Meng (1998), doi:10.1214/ss/1028905934.
    """
    named = _by_name(z)
    figure = new_figure(6.4, 1.2 + 0.34 * len(named))
    ax = figure.add_subplot()
    tidy(ax)
    ax.spines["left"].set_visible(False)
    places = np.arange(len(named))[::-1]
    ends = _limits(named.values(), level)
    for place, one in zip(places, named.values(), strict=True):
        _row(ax, place, one, level, ends)
    labels = [f"{name}{'' if one.passed else f' ({one.verdict})'}" for name, one in named.items()]
    set_row_labels(ax, places, labels)
    ax.set_ylim(-0.6, len(named) - 0.4)
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.set_xlim(*ends)
    set_text(ax.set_xlabel, f"log Z and its {100 * level:g}% interval", fontsize=8)
    _legend(ax, named.values())
    return figure


def _by_name(z: Any) -> dict[str, LogZ]:
    """The estimates by name; equal names are numbered."""
    if isinstance(z, LogZ):
        z = [z]
    if isinstance(z, Mapping):
        given = [(str(name), one) for name, one in z.items()]
    else:
        given = [(getattr(one, "estimator", ""), one) for one in z]
    if not given or not all(isinstance(one, LogZ) for _, one in given):
        found = "nothing" if not given else type(z).__name__ + " of other values"
        raise ValueError(f"z is {found}; it must be {NEEDS}; pass what un.log_z returned.")
    out: dict[str, LogZ] = {}
    for name, one in given:
        same = sum(other == name for other, _ in given)
        number = sum(key == name or key.startswith(f"{name} (") for key in out) + 1
        out[f"{name} ({number})" if same > 1 else name] = one
    return out


def _limits(found: Any, level: float) -> tuple[float, float]:
    """All intervals, with room for bounds that lie near them."""
    ends = [end for z in found for end in (z.value, *z.interval(level)) if np.isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = max(high - low, 1e-3 * max(abs(low), abs(high), 1e-6))
    return low - 0.6 * room, high + 0.6 * room


def _row(ax: Any, place: float, z: LogZ, level: float, ends: tuple[float, float]) -> None:
    color = COLORS[0] if z.passed else COLORS[1]
    if not np.isfinite(z.value):
        ax.text(
            0.5, place, f"log Z = {z.value}", transform=ax.get_yaxis_transform(), ha="center",
            va="center", fontsize=8, color=color,
        )  # fmt: skip
        return
    if np.isfinite(z.standard_error) and z.standard_error > 0:
        ax.plot(z.interval(level), [place] * 2, color=color, linewidth=1.6)
    for bound, mark in zip(z.bounds or (), ("[", "]"), strict=False):
        if ends[0] <= bound <= ends[1]:
            ax.plot(bound, place, marker=f"${mark}$", color=INK, markersize=9, linestyle="")
        elif np.isfinite(bound):  # further away: its number at the edge
            below = bound < ends[0]
            words = f"{mark} {bound:.4g} ◂" if below else f"▸ {bound:.4g} {mark}"
            ax.text(
                0.005 if below else 0.995, place, words, transform=ax.get_yaxis_transform(),
                ha="left" if below else "right", va="center", fontsize=7.5, color=INK,
            )  # fmt: skip
    mark = "s" if z.passed and not z.standard_error else "o" if z.passed else "x"
    ax.plot(z.value, place, mark, color=color, markersize=6, zorder=3)


def _legend(ax: Any, found: Any) -> None:
    from matplotlib.lines import Line2D

    found = list(found)
    kinds = [
        ("o", COLORS[0], "passed", any(z.passed and z.standard_error for z in found)),
        ("s", COLORS[0], "exact", any(z.passed and not z.standard_error for z in found)),
        ("x", COLORS[1], "did not pass", any(not z.passed for z in found)),
        (r"$[\,]$", INK, "bounds", any(z.bounds for z in found)),
    ]
    handles = [
        Line2D([], [], color=color, marker=mark, linestyle="", markersize=6, label=label)
        for mark, color, label, shown in kinds
        if shown
    ]
    add_legend(ax, handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, labelcolor=PALE)
