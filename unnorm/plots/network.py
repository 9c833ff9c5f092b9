"""A symmetric matrix of couplings as a network."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import COLORS, INK, PALE, add_legend, mark_failure, new_figure, plain
from unnorm.core.messages import pluralize
from unnorm.core.validation import verb
from unnorm.fitting.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIGNS: dict[bool, tuple[str, Any]] = {
    True: (COLORS[0], "-"),
    False: (COLORS[1], (0, (4, 2))),
}  # positive; negative


@verb
def plot_network(
    fit: Fit, parameter: str, *, level: float = 0.95, most: int = 400, listed: int = 14
) -> "Figure":
    """Draw a symmetric matrix as a network: solid edges are positive, dashed ones negative, the
    width is the size.

    The nodes stand on a circle and their labels outside it, so that no edge crosses a label. Edges
    whose interval holds zero are not drawn; of a fit without standard errors, such as the lasso's,
    all that are not zero are.

    Args:
        fit: what `un.fit` returned.
        parameter: the name of a symmetric matrix, such as ``"coupling"``.
        level: of the intervals.
        most: edges that are drawn, the largest first.
        listed: edges in the legend with their intervals, the largest first.

    Returns:
        A Matplotlib Figure.

    Raises:
        ValueError: a parameter that is no symmetric matrix.

    Example:
        >>> import unnorm as un
        >>> data = un.models.load("rochdale")[["Econ", "Age", "Child"]]
        >>> fit = un.fit(un.models.ising, data, "pseudo_likelihood", seed=0, progress=False)
        >>> len(un.plot_network(fit, "coupling").axes)
        1

    References:
        Epskamp et al. (2012), doi:10.18637/jss.v048.i04 (qgraph).
    """
    matrix = fit.matrix(parameter)
    _refuse(matrix, parameter)
    edges, left_out = _edges(fit, parameter, level)
    drawn = edges.head(most)
    places = _circle(len(matrix))
    figure = new_figure(8.6, 4.8)
    ax = figure.add_subplot()
    at = {label: place for label, place in zip(matrix.index, places, strict=True)}
    largest = drawn["estimate"].abs().max() if len(drawn) else 1.0
    for (one, other), row in drawn.iloc[::-1].iterrows():
        color, line = SIGNS[row["estimate"] > 0]
        ends = np.array([at[one], at[other]]).T
        width = 0.6 + 5.0 * abs(row["estimate"]) / largest
        ax.plot(*ends, color=color, linestyle=line, linewidth=width, zorder=1, alpha=0.85)
    _nodes(ax, list(matrix.index), places)
    _legend(figure, drawn, len(edges), left_out, level, listed)
    ax.set_title(**_title(parameter), loc="left", fontsize=10, fontweight="bold", color=INK)
    mark_failure(figure, fit)
    return figure


def _title(parameter: str) -> dict[str, Any]:
    shown = plain(parameter)
    return {"label": shown["s"], "parse_math": False}


def _refuse(matrix: Any, parameter: str) -> None:
    square = getattr(matrix, "ndim", 0) == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not np.array_equal(matrix, matrix.T, equal_nan=True) or len(matrix) < 2:
        raise ValueError(
            f"plot_network was given {parameter}, which must be a symmetric matrix of at least "
            "two rows; use un.plot_forest(fit)."
        )


def _edges(fit: Fit, parameter: str, level: float) -> "tuple[pd.DataFrame, int]":
    """The edges that are drawn, the largest first, and how many are not because their interval
    holds zero.
    """
    table = fit.summary(level).loc[parameter]
    table = table[[key[0] != key[1] for key in table.index]]
    finite = table[np.isfinite(table["estimate"]) & (table["estimate"] != 0)]
    known = finite["standard_error"].notna()
    kept = finite[~known | (finite["lower"] > 0) | (finite["upper"] < 0)]
    order = np.argsort(-kept["estimate"].abs().to_numpy(), kind="stable")
    return kept.iloc[order], len(finite) - len(kept)


def _circle(count: int) -> np.ndarray:
    angle = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    return np.column_stack([np.cos(angle), np.sin(angle)])


def _nodes(ax: "Axes", labels: list[Any], places: np.ndarray) -> None:
    """Dots on the circle, labels outside; from 16 nodes on the labels point outward."""
    small = len(labels) > 16
    ax.plot(*places.T, "o", color=INK, markersize=3 if small else 7, zorder=3)
    for label, (x, y) in zip(labels, places, strict=True):
        angle = np.degrees(np.arctan2(y, x))
        turned = {"rotation": angle if abs(angle) <= 90 else angle + 180, "va": "center",
                  "rotation_mode": "anchor"} if small else {
            "va": "center" if abs(y) < 0.9 else "bottom" if y > 0 else "top"}  # fmt: skip
        side = "left" if x > 1e-9 else "right" if x < -1e-9 else "center"
        if small and side == "center":
            side = "left"
        ax.text(
            1.08 * x, 1.08 * y, **plain(label, 24), ha=side, fontsize=6 if small else 9,
            color=INK, zorder=4, **turned,
        )  # fmt: skip
    ax.set_aspect("equal")
    reach = 1.75
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach if small else -1.3, reach if small else 1.3)
    ax.set_axis_off()


def _legend(
    figure: "Figure", drawn: "pd.DataFrame", found: int, left_out: int, level: float, listed: int
) -> None:
    """The largest edges with their intervals, what the lines mean, and what is not drawn."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SIGNS[sign][0], linestyle=SIGNS[sign][1], linewidth=2.5, label=word)
        for sign, word in ((True, "positive"), (False, "negative"))
    ]
    for (one, other), row in drawn.head(listed).iterrows():
        color, line = SIGNS[row["estimate"] > 0]
        interval = "" if np.isnan(row["lower"]) else f" ({row['lower']:.2f} to {row['upper']:.2f})"
        names = f"{plain(one, 16)['s']} – {plain(other, 16)['s']}"
        label = f"{names}: {row['estimate']:.2f}{interval}".replace("-", "−")
        handles.append(Line2D([], [], color=color, linestyle=line, linewidth=1.2, label=label))
    notes = [f"{found - listed} more edges" if found > listed else ""]
    notes += [f"{found - len(drawn)} of them are not drawn" if found > len(drawn) else ""]
    unclear = f"{pluralize(left_out, 'edge')} not drawn: {100 * level:g}% interval holds 0"
    notes += [unclear if left_out else ""]
    handles += [Line2D([], [], color=PALE, linewidth=0, label=note) for note in notes if note]
    add_legend(figure, handles, loc="outside right center", fontsize=7.5, handlelength=3)
