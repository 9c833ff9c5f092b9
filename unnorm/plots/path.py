"""The lasso's path."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import (
    COLORS,
    INK,
    LINES,
    PALE,
    add_legend,
    mark_failure,
    new_figure,
    plain,
    set_text,
    tidy,
)
from unnorm.core.validation import verb
from unnorm.fitting.penalties.path_result import Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@verb
def plot_path(path: Path, *, named: int = 10) -> "Figure":
    """Draw the coefficients along a lasso path, and below them the extended BIC.

    Args:
        path: what `un.path` returned.
        named: entries in the legend, those that are largest at the end of the path; the others are
            pale.

    Returns:
        A Matplotlib Figure; a vertical line marks the strength that the extended BIC chooses.

    Raises:
        ValueError: a value that is no path.

    Example:
        >>> import numpy as np, unnorm as un
        >>> p = un.Density(lambda x, *, mean: -0.5 * ((x - mean) ** 2).sum(), {"x": un.Real[3]},
        ...     {"mean": (un.Real[3], 0.0)})
        >>> data = np.random.default_rng(0).normal([0.0, 0.1, 1.0], 1.0, (100, 3))
        >>> found = un.path(p, data, "score_matching", penalty={"mean": un.L1()}, seed=0,
        ...     progress=False)
        >>> len(un.plot_path(found).axes)
        2

    References:
        Friedman, Hastie and Tibshirani (2010), doi:10.18637/jss.v033.i01; Foygel and Drton (2010),
        arXiv:1011.6640 (the extended BIC).
    """
    table = path.coefficients[path.penalised]
    strengths = table.index.to_numpy(float)
    judged = bool(path.extended_bic.notna().any())
    figure = new_figure(7.2, 5.2 if judged else 3.8)
    axes = figure.subplots(2 if judged else 1, 1, sharex=True, squeeze=False,
        gridspec_kw={"height_ratios": [3, 1] if judged else [1]})[:, 0]  # fmt: skip
    top = axes[0]
    order = np.argsort(-table.abs().max().to_numpy(), kind="stable")
    for rank, at in reversed(list(enumerate(order))):
        shown = rank < named
        style: dict[str, Any] = {"color": PALE, "linewidth": 0.6, "alpha": 0.6}
        if shown:
            style = {
                "color": COLORS[rank % len(COLORS)],
                "linestyle": LINES[rank % len(LINES)],
                "linewidth": 1.8 if rank < len(LINES) else 0.9,
                "label": plain(table.columns[at], 28)["s"],
                "zorder": 3,
            }
        top.plot(strengths, table.iloc[:, at], **style)
    top.axhline(0, color=INK, linewidth=0.6)
    set_text(top.set_ylabel, "coefficient")
    handles = top.get_legend_handles_labels()[0][::-1]
    add_legend(figure, handles, loc="outside right upper", handlelength=3)
    if judged:
        axes[1].plot(strengths, path.extended_bic, "o-", color=INK, markersize=3, linewidth=1)
        set_text(axes[1].set_ylabel, "extended BIC")
        best = float(path.extended_bic.idxmin())
        for ax in axes:
            ax.axvline(best, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    for ax in axes:
        tidy(ax)
        if (strengths > 0).all():
            ax.set_xscale("log")
    left = len(order) - named
    note = f"   ({left} smaller entries are pale)" if left > 0 else ""
    best_note = "; dashed: the best" if judged else ""
    set_text(axes[-1].set_xlabel, f"strength of the penalty{best_note}{note}", 90)
    set_text(top.set_title, repr(path).partition(":")[0], 90, loc="left", fontsize=9)
    mark_failure(figure, path)
    return figure
