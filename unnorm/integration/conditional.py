"""log Z of many rows at once: a density with covariates has a Z for each of their values, all of
them on one plan.

The same sums give the evidence log Σ_h p̃(x_i, h) of rows whose h is latent: it is log Z of the
density of h that has x for its covariates.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.declaration.density import Density
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.integration.count_series import finer, lone_count, plan_on, plan_windows
from unnorm.integration.frame import Frame
from unnorm.integration.nodes import Plan, as_flat, log_integral, nodes_on
from unnorm.integration.options import PLAN, QUADRATURE
from unnorm.integration.plan import plan_range
from unnorm.integration.quadrature.centering import locate_mass
from unnorm.integration.quadrature.integrand import Integrand
from unnorm.integration.representative_rows import at_rows, count_of, spread_rows
from unnorm.integration.states import enumerate_states


@compiled
def log_z_of_rows(density: Density, plan: Plan | None, rows: dict[str, jax.Array]) -> jax.Array:
    """log Z at the covariates of every row (m,), on a plan's nodes; without a plan by the declared
    closed form.
    """

    def one(row):
        there = density._at_row(row)
        return (
            there._log_z() if plan is None else log_integral(there, plan.events, plan.log_weights)
        )

    if plan is None:
        return jax.vmap(one)(rows)
    # checkpoint: a gradient must not keep what every block computed on its way
    batch = max(1, PLAN.batch // len(plan.log_weights))
    return jax.lax.map(jax.checkpoint(one), rows, batch_size=batch)


def location_of_rows(density: Density, rows: dict[str, jax.Array]) -> tuple[dict, dict]:
    """Centre and scale of the continuous variables over the rows, in unconstrained coordinates, at
    the present parameters.
    """
    density = density.on_chart()
    view = Unconstrained(density)
    max_states = PLAN.max_states(view.dimension)
    views = [Unconstrained(one) for one in at_rows(density, rows)]
    frames = [locate_mass(Integrand(one, max_states)).frame for one in views]
    centres = np.array([frame.centre for frame in frames])
    variances = np.array([np.diag(frame.factor @ frame.factor.T) for frame in frames])
    scale = np.sqrt(variances.mean(0) + centres.var(0))
    return view.split(jnp.asarray(centres.mean(0))), view.split(jnp.asarray(scale))


def plan_for_rows(
    density: Density,
    rows: dict[str, jax.Array],
    centre: dict | None = None,
    scale: dict | None = None,
    tolerance: float = 1e-9,
) -> Plan:
    """Events and weights on which `log_z_of_rows` is log Z of every row, for parameters near the
    present ones.

    The nodes go where a few representative rows have their mass. They are made denser until log Z
    of no row that is checked changes by more than the tolerance, or until all rows together would
    take too long.

    Args:
        density: bare, with covariates, its arrays in the dtype of the plan.
        rows: the covariates by name, (m, ...).
        centre: where the variables will be, as in `plan_for` (the data's mean); None: it is found
            from the density.
        scale: how wide.
        tolerance: of log Z.
    """
    density = density.on_chart()
    view = Unconstrained(density)
    size = view.dimension
    if lone_count(density):
        windows = plan_windows(at_rows(density, rows), centre, scale, PLAN.reach)
        first = plan_on(density, windows)

        def longer(doublings: int) -> Plan:
            return plan_on(density, finer(windows, doublings))

        return _refine(density, rows, first, longer, tolerance)
    if not size:
        events = enumerate_states(density)
        return Plan(events, jnp.zeros(len(next(iter(events.values())))))
    if centre is None or scale is None:
        centre, scale = location_of_rows(density, rows)
    frame = Frame(as_flat(view, centre, "centre"), np.diag(as_flat(view, scale, "scale")))
    steps = np.full(size, QUADRATURE.grid.widest_step)
    ranges = [
        plan_range(Integrand(Unconstrained(one), PLAN.max_states(size)), frame, steps, PLAN.reach)
        for one in at_rows(density, rows)
    ]
    sides = list(zip(np.min(ranges, 0)[:, 0], np.max(ranges, 0)[:, 1], strict=True))

    def on_grid(doublings: int) -> Plan:
        points = (PLAN.min_points[size - 1] - 1) * 2**doublings + 1
        return nodes_on(view, frame, [np.linspace(*side, points) for side in sides])

    return _refine(density, rows, on_grid(0), on_grid, tolerance)


def _refine(
    density: Density, rows: dict, plan: Plan, finer: Callable[[int], Plan], tolerance: float
) -> Plan:
    """The first plan for which a finer one (`finer(doublings)`) changes log Z of no row by more
    than the tolerance.
    """
    rounding = QUADRATURE.grid.rounding * float(jnp.finfo(jnp.result_type(float)).eps)
    tolerance, most = max(tolerance, rounding), PLAN.max_row_evaluations
    growth, doublings = 2 ** max(Unconstrained(density).dimension, 1), 0
    while growth * len(plan.log_weights) <= min(PLAN.max_nodes, most // count_of(rows)):
        doublings += 1
        other, seen = finer(doublings), rows
        if len(other.log_weights) * count_of(rows) > most // 4:
            some = np.array(spread_rows(rows))
            seen = jax.tree.map(lambda leaf, some=some: leaf[some], rows)
        log_z, before = (log_z_of_rows(density, one, seen) for one in (other, plan))
        change = jnp.max(jnp.abs(log_z - before))
        if change <= tolerance or not jnp.isfinite(change):
            break
        plan = other
    return plan


__all__ = [
    "location_of_rows",
    "log_z_of_rows",
    "plan_for_rows",
]
