"""Plans: events and weights fixed once, on which fitting differentiates log Z."""

import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.count_series import count_plan, lone_count
from unnorm.integration.frame import Frame
from unnorm.integration.nodes import Plan, as_flat, nodes_on, require_low_dimension
from unnorm.integration.options import ENUMERATION, PLAN, PlanOptions
from unnorm.integration.quadrature.centering import locate_mass
from unnorm.integration.quadrature.grid import (
    heavy_tails,
    mass_range,
    open_sides,
    refine,
    widen_range,
)
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.integration.states import count_states, enumerate_states


def has_plan(density: Density, options: PlanOptions = PLAN) -> bool:
    """Whether `plan_for` serves the density: few enough states or one count, at most three
    continuous dimensions.
    """
    density = density.on_chart()
    if lone_count(density):
        return True
    size, count = Unconstrained(density).dimension, count_states(density)
    if size > options.max_dimensions or count is None:
        return False
    return count <= (options.max_states(size) if size else ENUMERATION.max_states)


def plan_for(
    density: Density,
    centre: dict | None = None,
    scale: dict | None = None,
    tolerance: float = 1e-9,
    options: PlanOptions = PLAN,
) -> Plan:
    """Events and weights fixed once, on which `log_integral` is log Z for parameters near the
    present ones.

    Args:
        density: bare, its arrays in the dtype of the plan.
        centre: ``{name: array of the free shape}``: where the mass will be, in the unconstrained
            coordinates of the supports' charts (the data's mean); for continuous variables and a
            count. None: it is found from the density as it stands.
        scale: as `centre`: how wide (the data's standard deviation).
        tolerance: of log Z, for p̃ and for p̃², which stands for densities narrower than the
            present one.
        options: budgets.

    Returns:
        Plan(events, log_weights), for ``log_integral(density, plan.events, plan.log_weights)``.

    Raises:
        ValueError: a variable cannot be enumerated, or there are more than three continuous
            dimensions.

    Example:
        >>> import unnorm as un
        >>> from unnorm.integration.nodes import log_integral
        >>> p = un.Density(lambda x, *, a: a * x, {"x": un.Spin}, {"a": (un.Real, 0.0)})
        >>> round(float(log_integral(p, *plan_for(p))), 4)  # log 2
        0.6931
    """
    density = density.on_chart()
    view = Unconstrained(density)
    size = require_low_dimension(view)
    if lone_count(density):
        return count_plan(density, centre, scale, options.reach)
    if not size:
        events = enumerate_states(density)
        return Plan(events, np.zeros(len(next(iter(events.values()))), jnp.result_type(float)))
    integrand = Integrand(view, options.max_states(size))
    tolerance = max(tolerance, rounding_tolerance(integrand))
    reach = 1.0
    if centre is not None and scale is not None:
        width = np.diag(as_flat(view, scale, "scale"))
        frame = Frame(as_flat(view, centre, "centre"), width)
        steps = np.full(size, integrand.options.grid.widest_step)
        reach = options.reach
    else:
        frame, steps, *_ = locate_mass(integrand, far=True)
    sides = plan_range(integrand, frame, steps, reach)
    points = _plan_points(integrand, frame, steps, sides, tolerance, options)
    axes = [np.linspace(low, high, n) for (low, high), n in zip(sides, points, strict=True)]
    return nodes_on(view, frame, axes)


def rounding_tolerance(integrand: Integrand) -> float:
    """The least tolerance of log Z that the dtype allows."""
    return integrand.options.grid.rounding * float(jnp.finfo(jnp.result_type(float)).eps)


def plan_range(integrand: Integrand, frame: Frame, steps: np.ndarray, reach: float) -> np.ndarray:
    """The sides (D, 2) within which p̃ and √p̃ have mass, at least `reach` scales; the root stands
    for wider densities. A density without an integral is not followed.
    """
    least = np.arcsinh(reach)
    sides = np.array([[-least, least]] * len(frame.centre))
    for power in (1.0, 0.5):
        grid = widen_range(integrand, frame, steps, power=power)
        if np.isfinite(grid.total) and not heavy_tails(integrand, grid, 1e-6):
            needed = mass_range(grid, integrand.options.grid.negligible)
            low = np.minimum(sides[:, 0], needed[:, 0])
            sides = np.stack([low, np.maximum(sides[:, 1], needed[:, 1])], 1)
    return sides


def _plan_points(
    integrand: Integrand,
    frame: Frame,
    steps: np.ndarray,
    sides: np.ndarray,
    tolerance: float,
    options: PlanOptions,
) -> list[int]:
    """Points per axis at which p̃ and p̃² have converged, within the budget of a fit."""
    size, max_range = len(sides), integrand.options.grid.max_range
    points = [options.min_points[size - 1]] * size
    for power in (1.0, 2.0):
        level, error = refine(integrand, frame, steps, sides, tolerance, options.max_nodes, power)
        converged = np.isfinite(level.total) and error <= tolerance
        if converged and not open_sides(level, tolerance, max_range).any():
            points = [max(n, len(axis)) for n, axis in zip(points, level.axes, strict=True)]
    return points


__all__ = ["has_plan", "plan_for", "plan_range", "rounding_tolerance"]
