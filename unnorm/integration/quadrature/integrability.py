"""Whether the integral of a density is finite."""

import math
from collections.abc import Callable

import numpy as np

from unnorm.core.findings import Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.count_series import lone_count
from unnorm.integration.frame import Frame
from unnorm.integration.nodes import as_flat, coordinate_names
from unnorm.integration.options import PLAN, QUADRATURE, CenteringOptions, QuadratureOptions
from unnorm.integration.quadrature.grid import HeavyTail, heavy_tails, widen_range
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.supports import RealSupport


# -- directions --------------------------------------------------------------------------
def improper_direction(
    value: Callable,
    places: np.ndarray,
    precisions: np.ndarray,
    ways: np.ndarray | None = None,
    options: CenteringOptions = QUADRATURE.centering,
) -> np.ndarray | None:
    """A direction along which p̃ provably does not fall, so that its mass is infinite; or None.

    Candidates are the coordinate axes and the principal axes of the curvature, both ways, and
    `ways`. A direction that does not fall at three distances is followed over thirteen decades.

    Args:
        value: log p̃ in unconstrained coordinates at points (S, D).
        places: where directions begin (K, D), the highest first.
        precisions: minus the Hessians there (K, D, D).
        ways: (M, D), further directions, those in which ascents escaped.
        options: the distances.
    """
    size, distances = np.shape(places)[1], np.array(options.distances)
    further = np.zeros((0, size)) if ways is None else ways
    for place, precision in list(zip(places, precisions, strict=True))[:4]:
        curves, axes = np.linalg.eigh(np.nan_to_num(precision))
        both = np.concatenate([axes.T, np.eye(size)])
        directions = np.concatenate([both, -both, further])
        unit = 1 / math.sqrt(curves[-1]) if curves[-1] > 0 else 1.0
        here = value(place[None])[0]
        found = _along(value, place, directions, unit * distances)
        with np.errstate(invalid="ignore"):
            suspect = (found[:, 1:] >= found[:, :1] - 1).all(1) & (found[:, 2] >= found[:, 1] - 1)
        for direction in directions[suspect | np.isposinf(found[:, 1:]).all(1)]:
            far = _distances_along(place, direction, precision, unit, options)
            heights = _along(value, place, direction[None], far)[0]
            if _never_falls(heights, here, options):
                return direction
    return None


def _distances_along(
    place: np.ndarray, direction: np.ndarray, precision: np.ndarray, unit: float,
    options: CenteringOptions,
) -> np.ndarray:  # fmt: skip
    """Distances over thirteen decades of the narrowest scale, and of the direction's own: in the
    neck of a funnel the first end before the density begins to fall along it.
    """
    curve = float(direction @ np.nan_to_num(precision) @ direction)
    own = max(unit, np.abs(place).max(), 1 / math.sqrt(curve) if curve > 0 else 0.0)
    decades = options.decades + math.log10(own / unit)
    return unit * 10.0 ** np.arange(0.0, decades + 0.5, 0.5)


def _along(
    value: Callable, place: np.ndarray, directions: np.ndarray, distances: np.ndarray
) -> np.ndarray:
    """log (distance × p̃) at the distances along each direction (M, K): constant where p̃ falls as
    1 / distance.
    """
    points = place + distances[:, None] * directions[:, None, :]
    return value(points.reshape(-1, len(place))).reshape(len(directions), -1) + np.log(distances)


def _never_falls(heights: np.ndarray, here: float, options: CenteringOptions) -> bool:
    """Whether log (distance × p̃) over growing distances proves an infinite mass.

    Values that are not finite prove nothing by themselves. A NaN, or an infinity that no finite
    rise leads to (a value rounded onto a bound), is no proof; a fall at any distance is a disproof.
    """
    finite = np.isfinite(heights)
    rise = heights[: int(np.argmin(finite))] if not finite.all() else heights
    if len(rise) < options.min_rise or np.isnan(heights).any():
        return False
    if not np.isposinf(heights[len(rise) :]).all():
        return False
    rises = rise >= np.maximum.accumulate(rise) - 1
    return bool(rises.all() and rise.min() > here - options.depth)


# -- around the data ---------------------------------------------------------------------
def vanishes_from(
    density: Density,
    centre: dict | None,
    scale: dict | None,
    options: QuadratureOptions = QUADRATURE,
) -> bool:
    """Whether p̃ vanishes in every direction away from the data, in units of the data's spread.

    In other units, a direction along which a density falls only beyond 10^12 appears not to fall.

    Args:
        density: bare; at most three continuous dimensions.
        centre: ``{name: array of the free shape}``, the data's mean in unconstrained coordinates;
            None: False.
        scale: as `centre`, the data's standard deviation.
        options: of the rule.
    """
    view = Unconstrained(density.on_chart())
    size = view.dimension
    if centre is None or scale is None or not size or lone_count(density):
        return False
    place, spread = as_flat(view, centre, "centre"), as_flat(view, scale, "scale")
    integrand = Integrand(view, PLAN.max_states(size), options)
    steps = np.full(size, options.grid.widest_step)
    grid = widen_range(integrand, Frame(place, np.diag(spread)), steps)
    if not abs(grid.total) < 1e299 or grid.nan.any():  # stands for infinity
        return False
    tails = heavy_tails(integrand, grid, tolerance=1e-8)
    if not all(options.grid.decays(tail.fall) for tail in tails):
        return False

    def log_density_at(points):
        return integrand(place + spread * points)[0]

    if _rises_far_out(log_density_at, size, options.grid.negligible):
        return False
    if size == 1:
        return True
    return improper_direction(log_density_at, np.zeros((1, size)), np.eye(size)[None]) is None


def _rises_far_out(log_density_at: Callable, size: int, negligible: float) -> bool:
    """Whether log p̃ rises again, on rays along the axes and between them, beyond a valley in which
    it vanished; also where it is NaN.
    """
    distances = 10.0 ** np.arange(3.0, 61.0)
    between = np.random.default_rng(0).normal(size=(8, size))
    rays = np.concatenate([np.eye(size), between / np.linalg.norm(between, axis=1, keepdims=True)])
    points = np.concatenate([rays, -rays])[:, None] * distances[:, None]
    volumes = np.tile(size * np.log(distances), len(points))
    heights = log_density_at(points.reshape(-1, size)) + volumes
    return not np.all(heights < log_density_at(np.zeros((1, size)))[0] - negligible)


# -- findings ----------------------------------------------------------------------------
def direction_of(view: Unconstrained, tail: HeavyTail) -> str:
    """Where a heavy tail leads, in words."""
    name = coordinate_names(view)[tail.axis]
    variable = view.supports[name.partition("[")[0]]
    space = "" if isinstance(variable, RealSupport) else " in unconstrained coordinates"
    return f"{name} goes to {'+' if tail.upwards else '-'}infinity{space}"


def not_normalizable(
    view: Unconstrained,
    tails: list[HeavyTail],
    direction: np.ndarray | None = None,
    options: QuadratureOptions = QUADRATURE,
) -> Finding:
    """The finding that Z is infinite, with the direction in which it was seen."""
    at = [direction_of(view, tail) for tail in tails if not options.grid.decays(tail.fall)]
    if direction is not None:
        names = coordinate_names(view)
        largest = np.argsort(-np.abs(direction))[:4]
        parts = [f"{direction[i]:+.3g} {names[i]}" for i in largest if abs(direction[i]) > 1e-6]
        at.append(f"one goes along {' '.join(parts)}")
    where = (
        f" as {at[0]}, as far as floating-point numbers reach"
        if at
        else "; its log-density increases without bound"
    )
    return Finding(
        f"density {view.density.name} cannot be normalized: its mass does not vanish{where}",
        "check the signs of its parameters, bound its variables, or multiply it by a proper "
        "density",
        code=FindingCode.NOT_NORMALIZABLE,
    )


__all__ = ["direction_of", "improper_direction", "not_normalizable", "vanishes_from"]
