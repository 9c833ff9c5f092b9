"""Densities in one and two dimensions, with data and draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unnorm.core.figures import COLORS, INK, add_legend, new_figure, set_text, tidy
from unnorm.core.validation import verb
from unnorm.declaration.density import Density
from unnorm.diagnostics.contours import scatter_with_contours
from unnorm.diagnostics.draws import group_of
from unnorm.partition.driver import log_z

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class WindowOptions:
    """How a window in two dimensions is found.

    Attributes:
        widenings: factors that are tried until the window holds the mass of the outer contour.
        least, most: of the mass on the grid; more shows a grid too coarse for the density.
    """

    widenings: tuple[float, ...] = (1.0, 1.6, 2.5, 4.0)
    least: float = 0.96
    most: float = 1.05


DEFAULTS = WindowOptions()


@verb
def plot_density(
    p: Density,
    data: Any = None,
    draws: Any = None,
    *,
    window: Any = None,
    points: int = 160,
    seed: int = 0,
) -> "Figure":
    """Draw a density of one or two dimensions, normalized by `un.log_z`, with data and draws.

    In one dimension a curve (bars of a discrete variable) over histograms; in two the regions of
    highest density that hold 50, 80 and 95%. Where log Z does not pass, the density is scaled to
    the window and the title says so.

    Args:
        p: the density, such as ``fit.density``, with every parameter bound.
        data: rows, (n,) or (n, 2), or a DataFrame of two columns.
        draws: the same, or what `un.sample` returned.
        window: (low, high), or one such pair for each axis; None: around data and draws.
        points: of the grid, along each axis.
        seed: of log Z.

    Returns:
        A Matplotlib Figure.

    Raises:
        ValueError: another number of dimensions; neither data nor draws nor a window.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> len(un.plot_density(p, window=(-4.0, 4.0)).axes)
        1

    References:
        Hyndman (1996), doi:10.1080/00031305.1996.10474359 (regions of highest density).
    """
    names, join = _axes(p)
    rows, drawn = _rows(data, p, len(names)), _rows(draws, p, len(names))
    if rows is not None and hasattr(data, "columns"):
        names = [str(name) for name in data.columns]
    ends = _window(p, window, rows, drawn, len(names))
    z = log_z(p, seed=seed, progress=False)
    title = p.name if z.passed else f"{p.name}: log Z did not pass, scaled to this window"
    if len(names) == 1:
        figure = _curve(p, join, ends[0], z, points)
        ax = figure.axes[0]
        discrete = next(iter(p.variables.values())).discrete
        places = _line(p, ends[0], points)[0] if discrete else None
        for words, part in (("data", rows), ("draws", drawn)):
            if part is not None and len(part):
                _add_rows(ax, part, words, places, ends[0])
        ax.set_ylim(bottom=0)
        set_text(ax.set_xlabel, names[0])
        set_text(ax.set_title, title, 80, loc="left", fontsize=9)
        add_legend(ax)
        return figure
    x, y, values = _surface(p, join, ends, z, points)
    shown = rows if rows is not None else drawn
    if shown is None:
        shown = np.zeros((0, 2))
    other = drawn if rows is not None else None
    figure = scatter_with_contours(shown, other, (x, y, values), names=names, title=title)
    if rows is None:
        _relabel(figure, drawn is not None)
    return figure


def _axes(p: Density) -> tuple[list[str], Any]:
    """The names of the one or two coordinates, and a function from columns to events."""
    shapes = p.shapes()
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    if sum(sizes.values()) not in (1, 2) or p.covariates:
        raise ValueError(
            f"plot_density was given {p.name} of {sum(sizes.values())} "
            f"dimensions{' and covariates' if p.covariates else ''}; it must have one or two, and "
            "no covariates; fix the others by p.given(...)."
        )
    discrete = [name for name, support in p.variables.items() if support.discrete]
    if discrete and sum(sizes.values()) == 2:
        raise ValueError(
            f"plot_density was given the discrete variable {discrete[0]} in two dimensions; both "
            "must be continuous; use un.plot_predictive."
        )
    names = []
    for name, shape in shapes.items():
        axes = p.variables[name].shape_axes
        own = p.labels.get(str(axes[-1])) if axes else None
        labels = own or [str(i) for i in range(sizes[name])]
        names += [name] if not shape or sizes[name] == 1 else [f"{name}[{one}]" for one in labels]

    def join(columns: np.ndarray) -> dict[str, np.ndarray]:
        events, at = {}, 0
        for name, shape in shapes.items():
            part = columns[:, at : at + sizes[name]]
            events[name] = part.reshape(len(columns), *shape)
            at += sizes[name]
        return events

    return names, join


def _rows(given: Any, p: Density, size: int) -> np.ndarray | None:
    """Data or draws as (n, size)."""
    if given is None:
        return None
    posterior = None if isinstance(given, np.ndarray) else group_of(given, "posterior")
    skip = 1
    if posterior is not None:
        given, skip = {name: np.asarray(posterior[name]) for name in p.variables}, 2
    if isinstance(given, Mapping):
        parts = []
        for name in p.variables:
            array = np.asarray(given[name], float)
            parts.append(array.reshape(int(np.prod(array.shape[:skip])), -1))
        rows = np.concatenate(parts, axis=1)
    else:
        rows = np.asarray(given, float)
        rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != size:
        raise ValueError(
            f"data or draws have the shape {rows.shape}; they must be (n, {size}) for {p.name}; "
            "pass its columns."
        )
    return rows[np.isfinite(rows).all(axis=1)]


def _window(p: Density, window: Any, rows: Any, drawn: Any, size: int) -> np.ndarray:
    """(low, high) of each axis."""
    if window is not None:
        ends = np.broadcast_to(np.asarray(window, float), (size, 2))
    else:
        known = [part for part in (rows, drawn) if part is not None and len(part)]
        if not known:
            raise ValueError(
                "plot_density was given neither data nor draws; it must know where to look; pass "
                "window=(low, high)."
            )
        all_rows = np.concatenate(known)
        low, high = all_rows.min(0), all_rows.max(0)
        pad = 0.15 * np.where(high > low, high - low, 1.0)
        ends = np.column_stack([low - pad, high + pad])
    if not (np.isfinite(ends).all() and (ends[:, 0] < ends[:, 1]).all()):
        raise ValueError(
            f"window is {window!r}; it must hold finite ends, low before high; correct it."
        )
    return _inside(p, np.array(ends))


def _inside(p: Density, ends: np.ndarray) -> np.ndarray:
    """The window within the bounds of the supports."""
    at = 0
    for name, shape in p.shapes().items():
        low, high = p.variables[name].entry_bounds(())
        for _ in range(int(np.prod(shape))):
            ends[at] = np.clip(ends[at], low, high)
            at += 1
    return ends


def _surface(p: Density, join: Any, ends: np.ndarray, z: Any, points: int) -> tuple:
    """A grid with log p on it, wide enough for the contours."""
    middle, half = ends.mean(1), (ends[:, 1] - ends[:, 0]) / 2
    for factor in DEFAULTS.widenings:
        wide = _inside(p, np.column_stack([middle - factor * half, middle + factor * half]))
        step = (wide[:, 1] - wide[:, 0]) / points
        x, y = (
            low + (np.arange(points) + 0.5) * one for (low, _), one in zip(wide, step, strict=True)
        )
        mesh = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
        values = np.asarray(p(join(mesh)), float).reshape(points, points)
        log_mass = _log_sum(values) + np.log(step).sum()
        if z.passed and DEFAULTS.least < np.exp(log_mass - float(z)) < DEFAULTS.most:
            return x, y, values - float(z)
    return x, y, values - log_mass


def _log_sum(values: np.ndarray) -> float:
    top = np.max(values)
    return float(top + np.log(np.exp(values - top).sum()))


def _relabel(figure: "Figure", are_draws: bool) -> None:
    """The legend where no data were given."""
    ax = figure.axes[0]
    legend: Any = ax.get_legend()
    if not are_draws:
        legend.remove()
        return
    legend.get_texts()[0].set_text("draws")


def _line(p: Density, ends: np.ndarray, points: int) -> tuple[np.ndarray, float]:
    """The places of a curve or of bars, and the log of their distance (0 of bars)."""
    support = next(iter(p.variables.values()))
    if support.states is not None:
        return np.unique(np.ravel(support.states)), 0.0
    if support.discrete:
        return np.arange(max(int(np.floor(ends[0])), 0), int(np.ceil(ends[1])) + 1), 0.0
    step = (ends[1] - ends[0]) / (4 * points)
    return ends[0] + (np.arange(4 * points) + 0.5) * step, float(np.log(step))


def _curve(p: Density, join: Any, ends: np.ndarray, z: Any, points: int) -> "Figure":
    """One dimension: a curve or bars."""
    figure = new_figure(6.0, 3.8)
    ax = figure.add_subplot()
    tidy(ax)
    x, log_step = _line(p, ends, points)
    values = np.asarray(p(join(x[:, None])), float)
    density = np.exp(values - (float(z) if z.passed else _log_sum(values) + log_step))
    discrete = log_step == 0.0
    if discrete:
        ax.bar(x, density, width=0.6, color="#9dc4e2", edgecolor=COLORS[0], label="density")
    else:
        ax.plot(x, density, color=COLORS[0], linewidth=1.8, label="density", zorder=3)
    set_text(ax.set_ylabel, "probability" if discrete else "density")
    return figure


def _add_rows(ax: "Axes", rows: np.ndarray, words: str, places: Any, ends: np.ndarray) -> None:
    """Shares of a discrete variable as marks, or a histogram: filled of data, dashed of draws."""
    data = words == "data"
    if places is not None:
        shares = [(np.round(rows[:, 0]) == state).mean() for state in places]
        style: dict[str, Any] = {
            "color": INK if data else COLORS[1],
            "markersize": 12 if data else 6,
        }
        ax.plot(places, shares, "_" if data else "x", label=words, zorder=3, **style)
        return
    edges = np.linspace(ends[0], ends[1], 41)
    heights, _ = np.histogram(rows[:, 0], edges)
    heights = heights / (len(rows) * (edges[1] - edges[0]))
    style = {"color": "#cfcfcf"} if data else {"color": COLORS[1], "linestyle": (0, (3, 1.5))}
    ax.stairs(heights, edges, fill=data, label=words, **style)
