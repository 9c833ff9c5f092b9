"""Adaptive quadrature: a grid that is doubled until two levels agree."""

import math

import numpy as np

from unnorm.core.findings import Finding, FindingCode
from unnorm.declaration.density import Density
from unnorm.integration.adaptive_grid import FARTHEST, Integrand, Leak, cells, open_sides
from unnorm.integration.nodes import Frame, coordinate_names

COARSEST = {1: 65, 2: 33, 3: 33}  # points on an axis at the first level
# e-folds: a slab that falls less over the outer half of the range belongs to no finite integral
VANISHING = 2.0
ROUNDING = (
    64  # in units of the dtype's epsilon: what two levels may differ by, however fine they are
)


def integrate(
    integrand: Integrand,
    frame: Frame,
    steps: np.ndarray,
    sides: np.ndarray,
    tolerance: float,
    most: int,
):
    """Refine, and widen the range where the finer grid shows mass at its ends: the last level, and
    its error.
    """
    for _ in range(10):
        level, error = refine(integrand, frame, steps, sides, tolerance, most)
        wider = open_sides(level, tolerance)
        if not wider.any():
            break
        away = np.array([-1.0, 1.0]) * np.maximum(0.5, 0.2 * np.abs(sides))
        sides = np.clip(np.where(wider, sides + away, sides), -FARTHEST, FARTHEST)
    return level, error


def refine(
    integrand: Integrand,
    frame: Frame,
    steps: np.ndarray,
    sides: np.ndarray,
    tolerance: float,
    most: int,
    power: float = 1.0,
):
    """Double the points on every axis until two levels agree: the last level, and by how much the
    two differ.
    """
    size, error = len(sides), math.inf
    widths, room = sides[:, 1] - sides[:, 0], (most / integrand.count) ** (1 / size)
    points = np.maximum(COARSEST[size], np.ceil(widths / steps).astype(int) | 1)
    points = np.minimum(points, int(room / 2) | 1)  # two levels must fit
    level = cells(integrand, frame, _axes(sides, points), power)
    while (
        not error <= max(tolerance, level.beyond.error)
        and _nodes(2 * points - 1) * integrand.count <= most
    ):
        if any(tail.endless for tail in level.beyond.tails):
            break
        points, before = 2 * points - 1, level.total
        level = cells(integrand, frame, _axes(sides, points), power)
        error = abs(level.total - before)
    return level, error


def _nodes(points: np.ndarray) -> int:
    return math.prod(points.tolist())


def _axes(sides: np.ndarray, points: np.ndarray) -> list[np.ndarray]:
    return [np.linspace(*side, n) for side, n in zip(sides, points, strict=True)]


# -- what is said ----------------------------------------------------------------------
def direction_of(density: Density, end: Leak) -> str:
    """Where a heavy tail leads, in words."""
    name = coordinate_names(density)[end.axis]
    variable = density.variables[name.partition("[")[0]]
    space = "" if type(variable).__name__ == "_Real" else " in unconstrained coordinates"
    return f"{name} goes to {'+' if end.upwards else '-'}infinity{space}"


def improper(density: Density, ends: list[Leak], ridge: np.ndarray | None = None) -> Finding:
    """The finding that Z is infinite, with the direction where it was seen."""
    at = [direction_of(density, end) for end in ends if end.fall < VANISHING]
    if ridge is not None:
        names = coordinate_names(density)
        parts = [
            f"{ridge[i]:+.3g} {names[i]}"
            for i in np.argsort(-np.abs(ridge))[:4]
            if abs(ridge[i]) > 1e-6
        ]
        at.append(f"one goes along {' '.join(parts)}")
    where = (
        f" as {at[0]}, as far as floating-point numbers reach"
        if at
        else "; its log-density rises without end"
    )
    return Finding(
        f"density {density.name} cannot be normalized: its mass does not vanish{where}",
        "check the signs of its parameters, bound its variables, or multiply it by a proper "
        "density",
        code=FindingCode.NOT_NORMALIZABLE,
    )


__all__ = ["COARSEST", "ROUNDING", "VANISHING", "direction_of", "improper", "integrate", "refine"]
