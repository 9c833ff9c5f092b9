"""Plans: events and weights fixed once, on which fitting differentiates log Z."""

import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.integration.adaptive_grid import Integrand, leaks, open_sides, range_of, reach
from unnorm.integration.centering import find_frame
from unnorm.integration.count_series import count_plan, lone_count
from unnorm.integration.nodes import (
    MAX_DIMENSIONS,
    MAX_STATES,
    Frame,
    Plan,
    as_flat,
    count_states,
    dimensions_within_reach,
    enumerate_states,
    free_size,
    log_integral,
    nodes_on,
)
from unnorm.integration.quadrature import ROUNDING, refine

MOST_NODES = 2**20  # of a plan: a fit goes through them at every step
WIDE = 40.0  # scales: how far a plan reaches at least, when the caller knows where the mass is
PLENTY = {1: 401, 2: 129, 3: 65}  # points on an axis at least, then


def has_plan(density: Density) -> bool:
    """Whether `plan_for` serves the density: few enough states or one count, at most three
    continuous dimensions.
    """
    density = density.charted()
    if lone_count(density):
        return True
    size, count = free_size(density), count_states(density)
    return (
        size <= MAX_DIMENSIONS
        and count is not None
        and count <= (MAX_STATES if not size else most_states(size))
    )


def most_states(size: int) -> int:
    return MOST_NODES // PLENTY[size] ** size


def plan_for(
    density: Density, centre: dict | None = None, scale: dict | None = None, tolerance: float = 1e-9
) -> Plan:
    """Events and weights fixed once, on which `log_integral` is log Z for parameters near and about
    the present ones.

    Args:
        density: bare, its arrays in the dtype of the plan.
        centre: ``{name: array of the free shape}``: where the mass will be, in the unconstrained
            coordinates of the supports' charts (the data's mean); for continuous variables and a
            count. None: it is found from the density as it stands.
        scale: as `centre`: how wide (the data's standard deviation).
        tolerance: of log Z, for p̃ and for p̃², which stands for densities narrower than the
            present one.

    Returns:
        Plan(events, log_weights), for ``log_integral(density, plan.events, plan.log_weights)``.

    Raises:
        ValueError: a variable cannot be enumerated, or there are more than three continuous
            dimensions.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, a: a * x, {"x": un.Spin}, {"a": (un.Real, 0.0)})
        >>> round(float(log_integral(p, *plan_for(p))), 4)  # log 2
        0.6931
    """
    density = density.charted()
    size = dimensions_within_reach(density)
    if lone_count(density):
        return count_plan(density, centre, scale, WIDE)
    if not size:
        events = enumerate_states(density)
        return Plan(events, jnp.zeros(len(next(iter(events.values())))))
    integrand = Integrand(density, most_states(size))
    tolerance = max(tolerance, ROUNDING * float(jnp.finfo(jnp.result_type(float)).eps))
    known = centre is not None and scale is not None
    if known:
        frame, steps = (
            Frame(as_flat(density, centre, "centre"), np.diag(as_flat(density, scale, "scale"))),
            np.full(size, 0.25),
        )
    else:
        frame, steps, *_ = find_frame(integrand, far=True)
    sides = plan_sides(integrand, frame, steps, known)
    points = _plan_points(integrand, frame, steps, sides, tolerance)
    return nodes_on(
        density, frame, [np.linspace(*side, n) for side, n in zip(sides, points, strict=True)]
    )


def plan_sides(integrand: Integrand, frame: Frame, steps: np.ndarray, known: bool) -> np.ndarray:
    """Where p̃ and √p̃ have mass: the root stands for wider densities; a density without an
    integral is not followed.
    """
    least = np.arcsinh(WIDE if known else 1.0)
    sides = np.array([[-least, least]] * len(frame.centre))
    for power in (1.0, 0.5):
        found = reach(integrand, frame, steps, power=power)
        if np.isfinite(found.total) and not leaks(found, 1e-6):
            wanted = range_of(found)
            sides = np.stack(
                [np.minimum(sides[:, 0], wanted[:, 0]), np.maximum(sides[:, 1], wanted[:, 1])], 1
            )
    return sides


def _plan_points(
    integrand: Integrand, frame: Frame, steps: np.ndarray, sides: np.ndarray, tolerance: float
) -> list[int]:
    """Points per axis at which p̃ and p̃² have converged, within what a fit can afford."""
    size = len(sides)
    points = [PLENTY[size]] * size
    for power in (1.0, 2.0):
        level, error = refine(integrand, frame, steps, sides, tolerance, MOST_NODES, power)
        if (
            np.isfinite(level.total)
            and error <= tolerance
            and not open_sides(level, tolerance).any()
        ):
            points = [max(n, len(axis)) for n, axis in zip(points, level.axes, strict=True)]
    return points


__all__ = ["Plan", "has_plan", "log_integral", "most_states", "plan_for", "plan_sides"]
