"""Tensor grids: how far a rule must reach, and how fine it must be.

The range of t is widened until no mass is left at its ends; then the grid is doubled until two
levels agree.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import logsumexp

from unnorm.integration.frame import Frame
from unnorm.integration.nodes import grid_points
from unnorm.integration.options import GridOptions, QuadratureOptions
from unnorm.integration.quadrature.tails import TailMass, tail_mass


class GridIntegrand(Protocol):
    """What a rule is laid over: a function of points, its cost, and its options."""

    count: int  # evaluations of the log-density per point
    options: QuadratureOptions

    def __call__(self, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and whether they are resolved at the points (S, D), at most one block of them."""


class Grid(NamedTuple):
    """The log mass of every node of a tensor grid, and which nodes have none to report."""

    axes: list[np.ndarray]
    log_mass: np.ndarray
    resolved: np.ndarray
    nan: np.ndarray
    beyond: TailMass = TailMass()

    @property
    def total(self) -> float:
        """log Z: the nodes, and what lies beyond the last that is resolved."""
        return float(logsumexp(self.log_mass)) + self.beyond.added

    def margin(self, axis: int) -> np.ndarray:
        """The log mass of every slab across an axis."""
        return logsumexp(self.log_mass, axis=self._others(axis))

    def unresolved(self, axis: int) -> np.ndarray:
        """The slabs across an axis in which no node is resolved."""
        return np.logical_not(self.resolved.any(axis=self._others(axis)))

    @property
    def infinite(self) -> np.ndarray:
        """The nodes at which the log-density is infinite, or overflowed."""
        return self.log_mass >= 1e299

    @property
    def rises_to_infinity(self) -> bool:
        """Whether infinite nodes reach an end of the range, or are more than poles of the
        log-density, which lie between finite nodes.
        """
        infinite = self.infinite
        ends = (np.take(infinite, [0, -1], axis).any() for axis in range(infinite.ndim))
        return bool(infinite.mean() > 0.1 or any(ends))

    def _others(self, axis: int) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.axes)) if i != axis)


def evaluate_grid(
    integrand: GridIntegrand, frame: Frame, axes: list[np.ndarray], power: float = 1.0
) -> Grid:
    """Evaluate p̃^power on a tensor grid."""
    shape, options = tuple(len(axis) for axis in axes), integrand.options
    size = math.prod(shape)
    log_mass, resolved, nan = np.empty(size), np.empty(size, bool), np.empty(size, bool)
    for start in range(0, size, options.grid.block):
        block = slice(start, min(start + options.grid.block, size))
        points, log_weights = grid_points(frame, axes, block)
        values, resolved[block] = integrand(points)
        nan[block] = np.isnan(values) & resolved[block]
        values = np.where(resolved[block] & ~np.isnan(values), np.minimum(values, 1e300), -np.inf)
        log_mass[block] = power * values + log_weights
    log_mass, resolved = log_mass.reshape(shape), resolved.reshape(shape)
    scales = np.linalg.norm(frame.factor, axis=0)
    beyond = tail_mass(axes, log_mass, resolved, scales, options.tails)
    return Grid(axes, log_mass, resolved, nan.reshape(shape), beyond)


# -- the range ---------------------------------------------------------------------------
def widen_range(
    integrand: GridIntegrand,
    frame: Frame,
    steps: np.ndarray,
    sides: np.ndarray | None = None,
    power: float = 1.0,
) -> Grid:
    """Widen the range of t, starting from `sides` (D, 2), until the mass of its outermost slabs is
    negligible.
    """
    size, options = len(frame.centre), integrand.options.grid
    sides = np.array([[-4.0, 4.0]] * size) if sides is None else sides
    for _ in range(16):
        axes = [
            _axis(low, high, step, options.max_search_points[size - 1])
            for (low, high), step in zip(sides, steps, strict=True)
        ]
        grid = evaluate_grid(integrand, frame, axes, power)
        ends = np.array([grid.margin(i)[[0, -1]] for i in range(size)])
        wider = (ends >= grid.total - options.negligible) & (np.abs(sides) < options.max_range)
        if not np.isfinite(grid.total) or not wider.any():
            break
        widened = np.clip(1.7 * sides, -options.max_range, options.max_range)
        sides = np.where(wider, widened, sides)
    return grid


def _axis(low: float, high: float, step: float, max_points: int) -> np.ndarray:
    """Equally spaced t from low to high, 0 among them."""
    step = max(step, (high - low) / (max_points - 2))
    return step * np.arange(math.floor(low / step), math.ceil(high / step) + 1)


def mass_range(grid: Grid, negligible: float) -> np.ndarray:
    """The part (D, 2) of the range that holds all but a negligible mass, plus one node per side."""
    sides = []
    for i, axis in enumerate(grid.axes):
        counts = np.flatnonzero(grid.margin(i) >= grid.total - negligible)
        sides.append((axis[max(counts[0] - 1, 0)], axis[min(counts[-1] + 1, len(axis) - 1)]))
    return np.array(sides)


def open_sides(grid: Grid, tolerance: float, max_range: float) -> np.ndarray:
    """The sides (D, 2) whose outermost slab still has mass: a thin ridge may have slipped through a
    coarser grid.
    """
    found = np.zeros((len(grid.axes), 2), bool)
    for i, axis in enumerate(grid.axes):
        density_of_t = grid.margin(i)[[0, -1]] - grid.total - math.log(axis[1] - axis[0])
        found[i] = (density_of_t > math.log(tolerance) - 3) & (np.abs(axis[[0, -1]]) < max_range)
    return found


class HeavyTail(NamedTuple):
    """A side on which the mass has not vanished where floating-point numbers end."""

    axis: int
    upwards: bool
    fall: float  # e-folds by which the mass of a slab fell over the outer half of the range
    beyond: float  # share of the total that lies beyond if it continues to fall at that rate


def heavy_tails(
    integrand: GridIntegrand, grid: Grid, tolerance: float, rounded: bool = True
) -> list[HeavyTail]:
    """The sides on which a finite range cannot be distinguished from a part of an infinite mass.

    A density whose integral diverges has mass in the outermost slab however far the range goes. A
    wall that the user set (minus infinity) is no heavy tail.

    Args:
        integrand: what the grid was evaluated on; its options are used.
        grid: a grid whose range has been widened.
        tolerance: of log Z.
        rounded: False leaves out the sides on which values round onto a bound and the mass falls
            towards it at all: few nodes do not show what lies beyond.
    """
    options, result = integrand.options.grid, []
    tails = {(tail.axis, tail.upwards): tail for tail in grid.beyond.tails}
    for i, axis in enumerate(grid.axes):
        margin, unresolved = grid.margin(i) - grid.total, grid.unresolved(i)
        for upwards in (False, True):
            tail = tails.get((i, upwards))
            if tail is None:
                order = slice(None, None, -1) if upwards else slice(None)
                slabs = axis[order], margin[order], unresolved[order]
                found = _heavy_end(i, upwards, slabs, options, rounded)
                if found is not None and found.beyond > tolerance / 10:
                    result.append(found)
            elif tail.diverges:
                result.append(HeavyTail(i, upwards, 0.0, math.inf))
            elif not tail.follows_power_law:  # one that does is in the total
                result.append(HeavyTail(i, upwards, math.inf, tail.share))
    return result


def _heavy_end(
    axis: int,
    upwards: bool,
    slabs: tuple[np.ndarray, np.ndarray, np.ndarray],
    options: GridOptions,
    rounded: bool,
) -> HeavyTail | None:
    """The mass of the last slab and its fall, where the range ends with floating point."""
    t, masses, unresolved = slabs  # from the end inwards
    step, out = abs(t[1] - t[0]), int(np.argmin(unresolved))
    at_the_end = out > 0 or abs(t[0]) > options.max_range - step
    if not at_the_end or not np.isfinite(masses[out]):
        return None
    half = int(np.argmin(np.abs(t - t[out] / 2)))
    fall = float(masses[half] - masses[out]) if half != out else 0.0
    spacing = float(np.log(np.cosh(t[out])) - np.log(np.cosh(t[half])))  # nodes are farther apart
    if out > 0 and not rounded and fall + spacing > -options.max_rise:
        return None
    rate = max(fall, 1e-300) / max(abs(t[half] - t[out]), step)
    return HeavyTail(axis, upwards, fall, math.exp(min(masses[out] - math.log(step * rate), 700.0)))


# -- the resolution ----------------------------------------------------------------------
def integrate(
    integrand: GridIntegrand,
    frame: Frame,
    steps: np.ndarray,
    sides: np.ndarray,
    tolerance: float,
    max_nodes: int,
) -> tuple[Grid, float]:
    """Refine, and widen the range where the finer grid shows mass at its ends: the last level, and
    its error.
    """
    max_range = integrand.options.grid.max_range
    for _ in range(10):
        level, error = refine(integrand, frame, steps, sides, tolerance, max_nodes)
        wider = open_sides(level, tolerance, max_range)
        if not wider.any():
            break
        away = np.array([-1.0, 1.0]) * np.maximum(0.5, 0.2 * np.abs(sides))
        sides = np.clip(np.where(wider, sides + away, sides), -max_range, max_range)
    return level, error


def refine(
    integrand: GridIntegrand,
    frame: Frame,
    steps: np.ndarray,
    sides: np.ndarray,
    tolerance: float,
    max_nodes: int,
    power: float = 1.0,
) -> tuple[Grid, float]:
    """Double the points on every axis until two levels agree: the last level, and their
    difference.
    """
    size, error = len(sides), math.inf
    widths, room = sides[:, 1] - sides[:, 0], (max_nodes / integrand.count) ** (1 / size)
    coarsest = integrand.options.grid.first_points[size - 1]
    points = np.maximum(coarsest, np.ceil(widths / steps).astype(int) | 1)
    points = np.minimum(points, int(room / 2) | 1)  # two levels must fit
    level = evaluate_grid(integrand, frame, _axes(sides, points), power)
    while (
        not error <= max(tolerance, level.beyond.error)
        and math.prod((2 * points - 1).tolist()) * integrand.count <= max_nodes
    ):
        if any(tail.diverges for tail in level.beyond.tails):
            break
        points, before = 2 * points - 1, level.total
        level = evaluate_grid(integrand, frame, _axes(sides, points), power)
        error = abs(level.total - before)
    return level, error


def _axes(sides: np.ndarray, points: np.ndarray) -> list[np.ndarray]:
    return [np.linspace(low, high, n) for (low, high), n in zip(sides, points, strict=True)]


__all__ = [
    "Grid",
    "HeavyTail",
    "evaluate_grid",
    "heavy_tails",
    "integrate",
    "mass_range",
    "open_sides",
    "refine",
    "widen_range",
]
