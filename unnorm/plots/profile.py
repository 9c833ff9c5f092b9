"""Profile likelihoods of single entries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chi2

from unnorm.core.figures import COLORS, INK, PALE, add_legend, new_figure, set_text, tidy
from unnorm.core.messages import choose_from
from unnorm.core.validation import verb
from unnorm.fitting.inference.profile_likelihood import profile_curve
from unnorm.fitting.results.fit import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@verb
def plot_profile(
    fit: Fit,
    entries: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    points: int = 21,
    progress: bool = True,
) -> "Figure":
    """Draw the profile deviance 2 (ℓ̂ − ℓ(θ_j)) of entries, and the parabola of their standard
    errors.

    The profile interval is where the curve lies below the horizontal line, the quantile of χ²₁.

    Args:
        fit: a fit by maximum likelihood with an exact log Z.
        entries: labels such as ``"coupling[a,b]"``; None: the first six.
        level: of the intervals.
        points: at which each curve is computed.
        progress: show a bar.

    Returns:
        A Matplotlib Figure.

    Raises:
        ValueError: what `fit.profile` raises, or an entry that the fit does not list.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, mean: -0.5 * (x - mean) ** 2, {"x": un.Real},
        ...     {"mean": (un.Real, 0.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
        >>> len(un.plot_profile(fit, progress=False).axes)
        1

    References:
        Venzon and Moolgavkar (1988), doi:10.2307/2347496.
    """
    summary, ends = fit.summary(level), fit.profile(level, progress=progress)
    labels = _labels(entries, ends.index.flat)
    columns = min(len(labels), 3)
    rows = -(-len(labels) // columns)
    figure = new_figure(0.6 + 2.9 * columns, 0.7 + 2.3 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(labels) :]:
        ax.set_axis_off()
    quantile = float(chi2.ppf(level, 1))
    for ax, label in zip(axes.flat, labels, strict=False):
        row = ends.loc[label]
        error = summary.loc[label, "standard_error"]
        values = _grid(row, error, points)
        curve = profile_curve(fit, label, values)
        tidy(ax)
        ax.axhline(quantile, color=PALE, linewidth=0.9, linestyle=(0, (1, 1.5)))
        parabola = ((values - row["estimate"]) / error) ** 2
        ax.plot(values, parabola, color=COLORS[1], linestyle=(0, (4, 2)), linewidth=1.2,
            label="by the standard error")  # fmt: skip
        ax.plot(values, curve, color=COLORS[0], linewidth=1.8, label="profile")
        known = [end for end in (row["lower"], row["upper"]) if values[0] <= end <= values[-1]]
        ax.plot(known, [quantile] * len(known), "|", color=INK, markersize=12)
        ax.set_ylim(0, 2.2 * quantile)
        set_text(ax.set_title, label, 34, loc="left", fontsize=9)
    set_text(axes[0, 0].set_ylabel, "deviance")
    set_text(axes[-1, 0].set_xlabel, f"ticks: the {100 * level:g}% profile interval", fontsize=8)
    handles = axes[0, 0].get_legend_handles_labels()[0]
    add_legend(figure, handles, loc="outside upper right", ncols=2)
    return figure


def _labels(entries: Any, known: list[str]) -> list[str]:
    """The labels that are drawn."""
    if entries is None:
        return known[:6]
    chosen = [entries] if isinstance(entries, str) else list(entries)
    for label in chosen:
        if label not in known:
            raise ValueError(
                f"entries holds {label!r}; it must hold entries of the fit; "
                f"{choose_from(label, known)}."
            )
    return chosen


def _grid(row: Any, error: float, points: int) -> np.ndarray:
    """Values from beyond one end of the interval to beyond the other."""
    estimate, width = row["estimate"], 2 * error
    low, high = (
        end if np.isfinite(end) else estimate + sign * width
        for end, sign in ((row["lower"], -1), (row["upper"], 1))
    )
    below = np.linspace(estimate - 1.3 * (estimate - low), estimate, points // 2 + 1)
    above = np.linspace(estimate, estimate + 1.3 * (high - estimate), points // 2 + 1)
    return np.unique([*below, *above])
