"""The predictive distribution of one response at every row's covariates: means, quantiles,
quantile residuals, draws.

p(y | c_i) is tabulated at the estimate: on all its values where y is discrete, else on a grid of
the unconstrained coordinate u = m + s sinh(t), equally spaced in t, that spans the row's mass:
tails may reach 10^10 quartiles out. What is latent is summed or integrated out.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp

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
    refinements: int = 10  # of the grid, by the quartiles that it finds
    between_quartiles: int = 40  # points, with which a grid is fine enough
    beyond: float = 30.0  # times the distance of a given value, to hold the tail beyond it
    far_share: float = 1e-3  # of E|y|, from the last tenth of the grid: there is no mean


OPTIONS = PredictiveOptions()


class Table(NamedTuple):
    """Values of the response by row (n, V), the logs of their probabilities, and the distribution
    function there.
    """

    name: str
    values: np.ndarray
    log_mass: np.ndarray  # its exponential sums to 1 over the values
    cdf: np.ndarray
    discrete: bool
    slope: np.ndarray | None = None  # of the mean, in the free parameters (n, p)

    @property
    def mass(self) -> np.ndarray:
        return np.exp(self.log_mass)

    @property
    def mean(self) -> np.ndarray:
        """The means; NaN where the far end of a tail holds much of it, as for Cauchy's density."""
        mean = (self.mass * self.values).sum(1)
        if self.discrete:
            return mean
        away = self.mass * np.abs(self.values - self.quantile(0.5)[:, None])
        tenth = self.values.shape[1] // 10
        far = np.maximum(away[:, :tenth].sum(1), away[:, -tenth:].sum(1))
        return np.where(far > OPTIONS.far_share * away.sum(1), np.nan, mean)

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

    def log_shares(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The logs of P(Y < y), P(Y = y) and P(Y > y) of every row, small ones too."""
        if self.discrete:
            sides = (np.less, np.equal, np.greater)
            below, at, above = (
                logsumexp(np.where(side(self.values, values[:, None]), self.log_mass, -np.inf), 1)
                for side in sides
            )
            return below, at, above
        rows = zip(values, self.values, self.cdf, self.log_mass, strict=True)
        below, above = np.array([_log_sides(*row) for row in rows]).T
        return below, np.full(len(below), -np.inf), above


def _log_sides(
    value: float, values: np.ndarray, cdf: np.ndarray, log_mass: np.ndarray, small: float = 1e-8
) -> tuple[float, float]:
    """The logs of the distribution function of one row and of its complement, between the points
    of its grid.
    """
    rising = np.concatenate([[True], np.diff(values) > 0])  # values may have rounded onto a bound
    quartiles = np.interp([0.25, 0.5, 0.75], cdf, values)
    scale = max(quartiles[2] - quartiles[0], np.finfo(float).tiny)
    # on this scale the distribution function is smooth however far its tails reach
    x = np.arcsinh((values[rising] - quartiles[1]) / scale)
    at = np.clip(np.arcsinh((value - quartiles[1]) / scale), x[0], x[-1])
    share = float(np.clip(CubicSpline(x, cdf[rising])(at), 0.0, 1.0))
    if small < share < 1 - small:
        return np.log(share), np.log1p(-share)
    below = np.logaddexp.accumulate(log_mass)[rising]
    above = np.logaddexp.accumulate(log_mass[::-1])[::-1][rising]
    sides = float(np.interp(at, x, below)), float(np.interp(at, x, above))
    return min(sides[0], 0.0), min(sides[1], 0.0)


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


def tabulate(
    density: Any,
    name: str,
    covariates: dict,
    slope: bool = False,
    reach: np.ndarray | None = None,
) -> Table:
    """The predictive distribution of the variable `name` at these covariates.

    Args:
        density: bare, at the estimate, in double precision.
        name: the response, a scalar; other variables are latent.
        covariates: (n, ...) by name; of a density without any, some array (n,) by another name.
        slope: whether the derivatives of the means are wanted.
        reach: values of the response (n,) that the tables must span.

    Raises:
        ValueError: a response that is no scalar, or what cannot be summed or integrated.
    """
    _refuse(density, name, covariates)
    support = density.variables[name]
    vector, unravel = ravel_pytree(density.free())
    marks = [] if support.states is not None else _marks(density, name, covariates)
    for _ in range(OPTIONS.refinements):
        values, log_widths = _candidates(density, name, covariates, marks, reach)
        count = values.shape[1]
        events = {n: jnp.repeat(jnp.asarray(v), count, 0) for n, v in covariates.items()}
        events[name] = jnp.asarray(values).reshape(-1)
        plan = plan_for_latent(density, events)

        def log_mass(vector, events=events, plan=plan, log_widths=log_widths, count=count):
            logs = log_evidence(density.at(unravel(vector)), events, plan).reshape(-1, count)
            return jax.nn.log_softmax(logs + log_widths, 1)

        logs = np.asarray(log_mass(vector))
        cdf = np.cumsum(np.exp(logs), 1) if support.discrete else _simpson(np.exp(logs))
        table = Table(name, np.asarray(values), logs, cdf, support.discrete)
        between = ((cdf > 0.25) & (cdf < 0.75)).sum(1)
        if support.discrete or between.min() >= OPTIONS.between_quartiles:
            break
        quartiles = (jnp.asarray(table.quantile(share)) for share in (0.25, 0.75))
        marks = [marks[0], *quartiles, marks[3]]
    if not slope:
        return table
    means = jax.jacfwd(lambda vector: (jnp.exp(log_mass(vector)) * values).sum(1))
    return table._replace(slope=np.asarray(means(vector)))


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


def _candidates(
    density: Any, name: str, covariates: dict, marks: list[jax.Array], reach: np.ndarray | None
) -> tuple[jax.Array, Any]:
    """Values of the response by row, (n, V), and the logs of the widths that they stand for."""
    support, rows = density.variables[name], len(next(iter(covariates.values())))
    if support.states is not None:
        values = jnp.asarray(support.states, jnp.result_type(float))
        return jnp.broadcast_to(values, (rows, len(values))), 0.0
    low, high = marks[0], marks[3]
    if reach is not None and support.discrete:
        low, high = jnp.minimum(low, reach), jnp.maximum(high, reach)
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
    stacked = jnp.stack(marks)
    ends = jax.vmap(chart.unconstrain)(stacked.reshape(-1)).reshape(stacked.shape)
    middle = (ends[1] + ends[2]) / 2
    scale = jnp.maximum(ends[2] - ends[1], 1e-15 * (ends[3] - ends[0]) + jnp.finfo(float).tiny)
    low, high = ends[0] - middle, ends[3] - middle
    if reach is not None:  # and what lies beyond it
        beyond = OPTIONS.beyond * (jax.vmap(chart.unconstrain)(jnp.asarray(reach)) - middle)
        low, high = jnp.minimum(low, beyond), jnp.maximum(high, beyond)
    low, high = jnp.arcsinh(low / scale), jnp.arcsinh(high / scale)
    t = low[:, None] + (high - low)[:, None] * jnp.linspace(0, 1, OPTIONS.points)
    free = middle[:, None] + scale[:, None] * jnp.sinh(t)
    log_det = jax.vmap(chart.log_det)(free.reshape(-1)).reshape(free.shape)
    log_widths = log_det + jnp.log(jnp.cosh(t))
    return jax.vmap(chart.constrain)(free.reshape(-1)).reshape(free.shape), log_widths


def _marks(density: Any, name: str, covariates: dict) -> list[jax.Array]:
    """The values of the response between which each row has its mass, about its quartiles between
    them, in order.
    """
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
        quartiles = jnp.argmax(below >= 0.25) - 1, jnp.argmax(below >= 0.75) + 1
        last = len(distinct) - jnp.argmax(inside[::-1])
        return jnp.stack([jnp.argmax(inside) - 1, *quartiles, last])

    places = jnp.clip(jax.lax.map(of_row, covariates), 0, len(distinct) - 1)
    return list(jnp.asarray(distinct)[places.T])


def table_of_fit(
    fit: Any, covariates: dict, name: str, slope: bool = False, reach: np.ndarray | None = None
) -> Table:
    """The predictive distribution at a fit, in double precision."""
    with jax.enable_x64(True):
        density, rows = cast((fit.density.for_jit(), covariates), jnp.float64)
        return tabulate(density, name, rows, slope, reach)


__all__ = ["OPTIONS", "PredictiveOptions", "Table", "draw_rows", "table_of_fit", "tabulate"]
