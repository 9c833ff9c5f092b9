"""The history of a fit."""

from typing import TYPE_CHECKING

import numpy as np

from unnorm.core.figures import COLORS, PALE, add_legend, mark_failure, new_figure, set_text, tidy
from unnorm.core.validation import verb
from unnorm.fitting.results.fit import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@verb
def plot_training(fit: Fit) -> "Figure":
    """Draw the loss by step, and its running median where there are many steps.

    Args:
        fit: what `un.fit` returned; of contrastive divergence the history is the step's length,
            for it has no loss.

    Returns:
        A Matplotlib Figure.

    Raises:
        ValueError: a fit without a history, such as one by a closed form.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive},
        ...     {"rate": (un.Positive, 1.0)})
        >>> fit = un.fit(p, [0.5, 1.0, 3.5, 3.0], "maximum_likelihood", seed=0, progress=False)
        >>> un.plot_training(fit).axes[0].get_xlabel()
        'step'

    References:
        Tukey (1977), Exploratory Data Analysis, ch. 7 (running medians).
    """
    history = np.asarray(fit.history, float)
    finite = np.isfinite(history)
    if not finite.any():
        raise ValueError(
            "plot_training was given a fit without a history; it must have taken steps, which a "
            "closed form does not; leave the picture out."
        )
    figure = new_figure(6.4, 3.4)
    ax = figure.add_subplot()
    tidy(ax)
    steps, window = np.arange(1, len(history) + 1), max(len(history) // 40, 1)
    many = window > 1
    ax.plot(
        steps, history, color=PALE if many else COLORS[0], linewidth=0.7 if many else 1.6,
        marker="o" if len(history) < 40 else None, markersize=3, label="every step",
    )  # fmt: skip
    if many:
        middle, median = running_median(history, window)
        ax.plot(middle, median, color=COLORS[0], linewidth=1.8, label="running median")
        add_legend(ax, loc="upper right")
    low, high = np.quantile(history[finite], [0.0, 0.995])
    if many and high > low:  # the first steps would flatten all others
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if not finite.all():
        first = int(np.argmin(finite)) + 1
        ax.axvline(first, color=COLORS[1], linestyle=(0, (4, 2)), linewidth=1)
        ax.text(
            first, 0.98, " not finite from here", transform=ax.get_xaxis_transform(), va="top",
            fontsize=8, color=COLORS[1],
        )  # fmt: skip
    set_text(ax.set_xlabel, "step")
    divergence = fit.objective.startswith("contrastive_divergence")
    set_text(ax.set_ylabel, "length of the step" if divergence else "loss")
    set_text(ax.set_title, repr(fit), 90, loc="left", fontsize=9)
    mark_failure(figure, fit)
    return figure


def running_median(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The middles of windows that follow each other, and the medians in them."""
    count = len(values) // window
    parts = values[: count * window].reshape(count, window)
    with np.errstate(all="ignore"):
        medians = np.array([
            np.median(part[np.isfinite(part)]) if np.isfinite(part).any() else np.nan
            for part in parts
        ])  # fmt: skip
    return (np.arange(count) + 0.5) * window, medians
