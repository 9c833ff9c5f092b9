"""Two-dimensional data and draws over the regions of highest density."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import COLORS, INK, new_figure, set_text, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
