"""log Z of many rows at once: a density with covariates has a Z for each of their values, all of
them on one plan.

The same sums give the evidence log Σ_h p̃(x_i, h) of rows whose h is latent: it is log Z of the
density of h that has x for its covariates.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.integration.adaptive_grid import Integrand
from unnorm.integration.centering import WIDEST, find_frame
from unnorm.integration.count_series import finer, lone_count, plan_on, plan_windows
from unnorm.integration.nodes import (
    Frame,
    Plan,
    as_flat,
    enumerate_states,
    free_size,
    log_integral,
    nodes_on,
    split,
)
from unnorm.integration.plan import MOST_NODES, PLENTY, WIDE, most_states, plan_sides
from unnorm.integration.quadrature import ROUNDING

AT_ONCE = 2**16  # evaluations of the log-density, so that memory stays bounded
MOST = 2**26  # evaluations that all rows of one data set may take together
LOOKED_AT = 8  # rows at which it is found out where the nodes must lie


@jax.jit
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
    batch = max(1, AT_ONCE // len(plan.log_weights))
    return jax.lax.map(jax.checkpoint(one), rows, batch_size=batch)


def count_of(rows: dict) -> int:
    return len(next(iter(rows.values())))


def spread_rows(rows: dict[str, jax.Array], most: int = LOOKED_AT) -> list[int]:
    """The numbers of a few rows that stand for all: the extremes of every column, then some spread
    over the order.
    """
    flat = np.concatenate(
        [np.asarray(value, float).reshape(len(value), -1) for value in rows.values()], 1
    )
    ends = [end for column in flat.T for end in (column.argmin(), column.argmax())]
    evenly = np.linspace(0, len(flat) - 1, min(most, len(flat))).astype(int)
    half = most // 2 if len(ends) > most // 2 else len(ends)
    chosen = np.linspace(0, len(ends) - 1, half).astype(int)
    return list(dict.fromkeys([*(int(ends[i]) for i in chosen), *map(int, evenly)]))[:most]


def at_rows(density: Density, rows: dict[str, jax.Array], most: int = LOOKED_AT) -> list[Density]:
    """The densities at a few rows that stand for all."""
    return [
        density._at_row({name: value[i] for name, value in rows.items()})
        for i in spread_rows(rows, most)
    ]


def location_of_rows(density: Density, rows: dict[str, jax.Array]) -> tuple[dict, dict]:
    """Where the continuous variables are at the present parameters: centre and scale over the rows,
    unconstrained.
    """
    density = density.charted()
    frames = [
        find_frame(Integrand(one, most_states(free_size(one)))).frame
        for one in at_rows(density, rows)
    ]
    centres = np.array([frame.centre for frame in frames])
    variances = np.array([np.diag(frame.factor @ frame.factor.T) for frame in frames])
    scale = np.sqrt(variances.mean(0) + centres.var(0))
    return split(density, jnp.asarray(centres.mean(0))), split(density, jnp.asarray(scale))


def plan_for_rows(
    density: Density, rows: dict[str, jax.Array], centre: dict | None = None, scale: dict | None = None,
    tolerance: float = 1e-9,
) -> Plan:  # fmt: skip
    """Events and weights on which `log_z_of_rows` is log Z of every row, for parameters near the
    present ones.

    The nodes go where a few rows that stand for all have their mass, and are made denser until log
    Z of no row that is looked at changes by more than the tolerance, or until all rows together
    would take too long.

    Args:
        density: bare, with covariates, its arrays in the dtype of the plan.
        rows: the covariates by name, (m, ...).
        centre: where the variables will be, as in `plan_for` (the data's mean); None: it is found
            from the density.
        scale: how wide.
        tolerance: of log Z.
    """
    density, size = density.charted(), free_size(density)
    counts = lone_count(density)
    if not size and not counts:
        events = enumerate_states(density)
        return Plan(events, jnp.zeros(len(next(iter(events.values())))))
    if counts:
        windows = plan_windows(at_rows(density, rows), centre, scale, WIDE)
        first = plan_on(density, windows)
        return _refined(
            density,
            rows,
            first,
            lambda _, times: plan_on(density, finer(windows, times)),
            tolerance,
        )
    if centre is None or scale is None:
        centre, scale = location_of_rows(density, rows)
    frame = Frame(as_flat(density, centre, "centre"), np.diag(as_flat(density, scale, "scale")))
    steps = np.full(size, WIDEST)
    found = [
        plan_sides(Integrand(one, most_states(size)), frame, steps, True)
        for one in at_rows(density, rows)
    ]
    low, high = np.min(found, 0)[:, 0], np.max(found, 0)[:, 1]

    def on_grid(doublings: int) -> Plan:
        points = (PLENTY[size] - 1) * 2**doublings + 1
        return nodes_on(
            density, frame, [np.linspace(*side, points) for side in zip(low, high, strict=True)]
        )

    return _refined(
        density, rows, on_grid(0), lambda plan, doublings: on_grid(doublings), tolerance
    )


def _refined(density: Density, rows: dict, plan: Plan, finer: Callable, tolerance: float) -> Plan:
    """The first plan whose log Z a finer one (`finer(plan, how often)`) changes nowhere by more
    than the tolerance.
    """
    tolerance = max(tolerance, ROUNDING * float(jnp.finfo(jnp.result_type(float)).eps))
    growth, doublings = 2 ** max(free_size(density), 1), 0
    while growth * len(plan.log_weights) <= min(MOST_NODES, MOST // count_of(rows)):
        doublings += 1
        other, seen = finer(plan, doublings), rows
        if len(other.log_weights) * count_of(rows) > MOST // 4:
            seen = jax.tree.map(lambda leaf: leaf[np.array(spread_rows(rows))], rows)
        apart = jnp.max(
            jnp.abs(log_z_of_rows(density, other, seen) - log_z_of_rows(density, plan, seen))
        )
        if apart <= tolerance or not jnp.isfinite(apart):
            break
        plan = other
    return plan


__all__ = [
    "at_rows",
    "count_of",
    "location_of_rows",
    "log_z_of_rows",
    "plan_for_rows",
    "spread_rows",
]
