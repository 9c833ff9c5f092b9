"""The predictive distribution of one response at every row's covariates: means, quantiles,
quantile residuals, draws.

p(y | c_i) is tabulated at the estimate: on all its values where y is discrete, else on a grid of
the unconstrained coordinate that spans the row's mass. What is latent is summed or integrated out.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.declaration.density import cast
from unnorm.fitting.row_normalizers import (
    log_evidence,
    plan_for_latent,
    refuse_marginalization,
)
from unnorm.integration.conditional import plan_for_rows
from unnorm.integration.nodes import log_densities
from unnorm.integration.plan import has_plan


@dataclass(frozen=True)
class PredictiveOptions:
    """How predictive distributions are tabulated."""

    points: int = 801  # of the grid of a continuous response: Simpson's rule is exact to 1e-9
    negligible: float = 1e-13  # share of the mass that may lie beyond either end of a table
    max_values: int = 2**14  # of a count, from the smallest to the largest that matters
    max_entries: int = 2**26  # rows times nodes


OPTIONS = PredictiveOptions()


class Table(NamedTuple):
    """Values of the response by row (n, V), their probabilities or the density along the grid, and
    the distribution function there.
    """

    name: str
    values: np.ndarray
    mass: np.ndarray  # sums to 1 over the values
    cdf: np.ndarray
    discrete: bool
    slope: np.ndarray | None = None  # of the mean, in the free parameters (n, p)

    @property
    def mean(self) -> np.ndarray:
        return (self.mass * self.values).sum(1)

    def quantile(self, share: float | np.ndarray) -> np.ndarray:
        """The quantiles of every row at this share (n,), or at shares of its own (n, m)."""
        shares = np.asarray(share) if np.ndim(share) == 2 else np.full((len(self.values), 1), share)
        rows = zip(self.values, self.cdf, shares, strict=True)
        if self.discrete:  # rounding must not skip a value
            last = self.values.shape[1] - 1
            found = [v[np.minimum(np.searchsorted(c, u - 1e-12), last)] for v, c, u in rows]
        else:
            found = [np.interp(u, c, v) for v, c, u in rows]
        return np.array(found) if np.ndim(share) == 2 else np.array(found)[:, 0]

    def between(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """F(y−) and F(y) of every row."""
        if not self.discrete:
            rows = zip(values, self.values, self.cdf, strict=True)
            at = np.array([_interpolated(*row) for row in rows])
            return at, at
        upper = (self.mass * (self.values <= values[:, None])).sum(1)
        return upper - (self.mass * (self.values == values[:, None])).sum(1), upper


def _interpolated(value: float, values: np.ndarray, cdf: np.ndarray) -> float:
    """The distribution function of one row between the points of its grid."""
    from scipy.interpolate import CubicSpline

    rising = np.concatenate([[True], np.diff(values) > 0])  # values may have rounded onto a bound
    spline = CubicSpline(values[rising], cdf[rising])
    inside = np.clip(value, values[0], values[-1])
    return float(np.clip(spline(inside), 0.0, 1.0))


def draw_rows(
    density: Any, events: dict, covariates: dict, key: jax.Array, replicates: int
) -> dict[str, jax.Array]:
    """Independent draws of the response at every row's covariates, (replicates, n) by name.

    Raises:
        ValueError: several responses, or what `tabulate` refuses.
    """
    names = [name for name in density.variables if name in events]
    if len(names) != 1:
        raise ValueError(
            f"{density.name} has the responses {', '.join(names)}, and each row has its own "
            "density; expected one response, or few states; use un.sample at the values of the "
            "covariates."
        )
    table = tabulate(density, names[0], covariates)
    uniform = jax.random.uniform(key, (len(table.values), replicates))
    return {names[0]: jnp.asarray(table.quantile(np.asarray(uniform)).T)}


def tabulate(density: Any, name: str, covariates: dict, slope: bool = False) -> Table:
    """The predictive distribution of the variable `name` at these covariates.

    Args:
        density: bare, at the estimate, in double precision.
        name: the response, a scalar; other variables are latent.
        covariates: (n, ...) by name; of a density without any, some array (n,) by another name.
        slope: whether the derivatives of the means are wanted.

    Raises:
        ValueError: a response that is no scalar, or what cannot be summed or integrated.
    """
    _refuse(density, name, covariates)
    support = density.variables[name]
    values, log_widths = _candidates(density, name, covariates)
    count = values.shape[1]
    events = {n: jnp.repeat(jnp.asarray(v), count, 0) for n, v in covariates.items()}
    events[name] = jnp.asarray(values).reshape(-1)
    plan = plan_for_latent(density, events)
    vector, unravel = ravel_pytree(density.free())

    def log_mass(vector):
        logs = log_evidence(density.at(unravel(vector)), events, plan).reshape(-1, count)
        return jax.nn.log_softmax(logs + log_widths, 1)

    def means(vector):
        return (jnp.exp(log_mass(vector)) * values).sum(1)

    mass = np.asarray(jnp.exp(log_mass(vector)))
    cdf = np.cumsum(mass, 1) if support.discrete else _simpson(mass)
    gradient = np.asarray(jax.jacfwd(means)(vector)) if slope else None
    return Table(name, np.asarray(values), mass, cdf, support.discrete, gradient)


def _simpson(mass: np.ndarray) -> np.ndarray:
    """The distribution function on an equally spaced grid."""
    from scipy.integrate import cumulative_simpson

    total = cumulative_simpson(mass, dx=1.0, axis=1, initial=0)
    return np.maximum.accumulate(total / total[:, -1:], 1)


def _refuse(density: Any, name: str, covariates: dict) -> None:
    shape = density.shapes()[name]
    if shape != ():
        raise ValueError(
            f"{name} has the shape {shape}, and predictive distributions are of one response; it "
            "must be a scalar; use un.simulate for draws of it."
        )
    if not has_plan(density):
        raise ValueError(
            f"The predictive distribution of {name} is a sum or an integral over "
            f"{', '.join(density.variables)}, which have many states or more than three "
            "continuous dimensions; expected few states or at most three continuous dimensions; "
            "use un.sample at the values of the covariates."
        )
    reason = len(density.variables) > 1 and refuse_marginalization(density, {name: np.zeros(1)})
    if reason:
        raise ValueError(f"{reason}.")


def _candidates(density: Any, name: str, covariates: dict) -> tuple[jax.Array, Any]:
    """Values of the response by row, (n, V), and the logs of the widths that they stand for."""
    support, rows = density.variables[name], len(next(iter(covariates.values())))
    if support.states is not None:
        values = jnp.asarray(support.states, jnp.result_type(float))
        return jnp.broadcast_to(values, (rows, len(values))), 0.0
    low, high = _ends(density, name, covariates)
    if support.discrete:
        first, last = float(low.min()), float(high.max())
        if last - first > OPTIONS.max_values:
            raise ValueError(
                f"The predictive distribution of {name} ranges from {first:g} to {last:g}; at "
                f"most {OPTIONS.max_values:,} values can be tabulated; use fewer rows, or scale "
                "the covariates."
            )
        values = jnp.arange(first, last + 1)
        return jnp.broadcast_to(values, (rows, len(values))), 0.0
    chart = support.chart
    ends = jax.vmap(chart.unconstrain)(jnp.stack([low, high]).reshape(-1)).reshape(2, -1)
    free = ends[0][:, None] + (ends[1] - ends[0])[:, None] * jnp.linspace(0, 1, OPTIONS.points)
    flat = free.reshape(-1)
    log_det = jax.vmap(chart.log_det)(flat).reshape(free.shape)
    return jax.vmap(chart.constrain)(flat).reshape(free.shape), log_det


def _ends(density: Any, name: str, covariates: dict) -> tuple[jax.Array, jax.Array]:
    """The values of the response between which each row has its mass."""
    plan = plan_for_rows(density, covariates)
    rows, size = len(next(iter(covariates.values()))), len(plan.log_weights)
    if rows * size > OPTIONS.max_entries:
        raise ValueError(
            f"{rows:,} rows of {size:,} nodes each do not fit into one table; expected fewer "
            "rows; pass the rows in parts."
        )
    nodes = np.asarray(plan.events[name])
    distinct, number = np.unique(nodes, return_inverse=True)

    def of_row(row):
        logs = log_densities(density._at_row(row), plan.events) + plan.log_weights
        share = jax.ops.segment_sum(jax.nn.softmax(logs), jnp.asarray(number), len(distinct))
        below, above = jnp.cumsum(share), jnp.cumsum(share[::-1])[::-1]
        inside = (below > OPTIONS.negligible) & (above > OPTIONS.negligible)
        return jnp.argmax(inside), len(distinct) - 1 - jnp.argmax(inside[::-1])

    first, last = jax.lax.map(of_row, covariates)
    first, last = jnp.maximum(first - 1, 0), jnp.minimum(last + 1, len(distinct) - 1)
    return jnp.asarray(distinct)[first], jnp.asarray(distinct)[last]


def table_of_fit(fit: Any, covariates: dict, name: str, slope: bool = False) -> Table:
    """The predictive distribution at a fit, in double precision."""
    with jax.enable_x64(True):
        density, rows = cast((fit.density.for_jit(), covariates), jnp.float64)
        return tabulate(density, name, rows, slope)


__all__ = ["OPTIONS", "PredictiveOptions", "Table", "draw_rows", "table_of_fit", "tabulate"]
