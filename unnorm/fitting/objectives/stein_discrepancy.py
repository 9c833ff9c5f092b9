"""Minimum kernel Stein discrepancy: pairs of rows, compared through the score."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import Finding
from unnorm.core.method import method
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.checks.integration_by_parts import smoothness_findings
from unnorm.fitting.loss import Loss, row_scores
from unnorm.fitting.objectives.auxiliary_noise import point_of, refuse_one_row
from unnorm.interactions.conditionals import objective_for


class PairKernel(NamedTuple):
    """The kernel k = (1 + |z_i − z_j|²)^(−1/2) of each row with all others: k_ij and k_ij³, both 0
    for j = i, and Σ_j tr ∇_i∇_j k.
    """

    values: jax.Array
    cubes: jax.Array
    traces: jax.Array


class StandardizedData(NamedTuple):
    """The rows that each row is compared with, and the columns' standard deviations."""

    data: dict[str, jax.Array]
    scale: jax.Array


@method
class SteinDiscrepancy(LossObjective):
    """Minimise mean_{i≠j} u(z_i, z_j), u = s_i's_j k + s_i'∇_j k + s_j'∇_i k + tr ∇_i∇_j k, s the
    score of p at z.

    z is x standardised column by column, k the inverse multiquadric (1 + |z − z'|²)^(−1/2), and the
    mean over pairs is the unbiased U-statistic, quadratic in the parameters of an exponential
    family. No Z and no second derivatives in x are needed, and the weight of far rows is bounded:
    the estimate is robust. The standard errors are those of a U-statistic: a row's part in all of
    its pairs, 2/(n − 1) Σ_j ∂u(z_i, z_j), squared (Hoeffding's projection); the scale of the
    columns is taken as given. For Real variables and at most 5,000 rows, whose pairs are all held.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x**2, {"x": un.Real}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> data = 0.5 * np.random.default_rng(0).normal(size=400)
        >>> fit = un.fit(p, data, un.objectives.SteinDiscrepancy(), progress=False)
        >>> abs(float(fit.density.parameters["rate"]) - 4.0) < 1.0
        True

    References:
        Barp, Briol, Duncan, Girolami and Mackey (2019), arXiv:1906.08283; Gorham and Mackey (2017),
        arXiv:1703.01717 (the kernel); Hoeffding (1948), doi:10.1214/aoms/1177730196 (U-statistics).
    """

    traits = Traits(supports_weights=False, couples_rows=True)
    max_rows: ClassVar[int] = 5000  # n² pairs are held in memory twice
    target = (
        "the minimum kernel Stein discrepancy (the maximum likelihood estimate only if the model "
        "is true)"
    )

    def refuse(self, density) -> str | None:
        if density.covariates:
            return (
                f"SteinDiscrepancy does not serve the covariate {next(iter(density.covariates))}, "
                "because it compares rows with each other; expected no covariates; use "
                "un.objectives.ScoreMatching, MaximumLikelihood or RankingNCE"
            )
        for name, support in density.variables.items():
            if support.score_matching != "plain":
                return (
                    f"SteinDiscrepancy has no boundary terms, and {name} is {support!r}; "
                    f"expected Real; use un.objectives.{objective_for(support)}"
                )
        return None

    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        rows = len(next(iter(events.values())))
        if rows > self.max_rows:
            raise ValueError(
                f"data has {rows} rows, and SteinDiscrepancy compares each row with each other; "
                f"expected at most {self.max_rows}; pass fewer rows, or use "
                "un.objectives.ScoreMatching."
            )
        data = {name: events[name] for name in density.variables}
        points = jax.vmap(lambda event: point_of(density, event)[0])(data)
        scale = jnp.std(points, 0)
        if not bool(jnp.all(scale > 0)):
            column = int(np.argmin(np.asarray(scale)))
            raise ValueError(
                f"Column {column} of the data never changes; SteinDiscrepancy expected some "
                "spread to standardise by; drop the column, or pass more rows."
            )
        return ObjectiveState(per_row=_pairs(points / scale), shared=StandardizedData(data, scale))

    def losses(self, density, state, events) -> jax.Array:
        """Return (1/(n − 1)) Σ_{j≠i} u(z_i, z_j) of the rows i with all rows j of the data."""
        (data, scale), (values, cubes, traces) = state.shared, state.per_row
        here, own = _points_and_scores(density, events, scale)
        there, others = _points_and_scores(density, data, scale)
        if values.shape[1] != len(there):
            raise ValueError(
                "SteinDiscrepancy was given held-out rows, which have no pairs with the rows "
                "that it was prepared for; expected none; leave held_out out."
            )
        # ∇_j k = (z_i − z_j) k³ = −∇_i k
        both = jnp.sum(own * (values @ others), 1)
        first = jnp.sum(own * (here * cubes.sum(1)[:, None] - cubes @ there), 1)
        second = jnp.sum(here * (cubes @ others), 1) - cubes @ jnp.sum(there * others, 1)
        return (both + first - second + traces) / (len(there) - 1)

    def findings(self, density, state, events) -> list[Finding]:
        return smoothness_findings(density, events, type(self).__name__, kinks="moving")

    def score_correction(self, density, state, events) -> jax.Array | None:
        """Return the row's part in the losses of all other rows, by symmetry that in its own."""
        return _own_scores(self, density, state, events)


@compiled
def _own_scores(objective, density, state: ObjectiveState, events: dict) -> jax.Array:
    loss = Loss(objective, density, state, events)
    return row_scores(loss, loss.vector)


@compiled
def _pairs(points: jax.Array) -> PairKernel:
    size = points.shape[1]

    def row(given):
        place, point = given
        squares = jnp.sum((points - point) ** 2, 1)
        others = jnp.arange(len(points)) != place
        value = jnp.where(others, (1 + squares) ** -0.5, 0.0)
        return PairKernel(value, value**3, jnp.sum(size * value**3 - 3 * squares * value**5))

    return jax.lax.map(row, (jnp.arange(len(points)), points), batch_size=128)


def _points_and_scores(density, events: dict, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the standardised rows and the score in their coordinates, both (n, d)."""

    def one(event):
        point, log_density = point_of(density, event)
        return point, jax.grad(log_density)(point)

    points, scores = jax.vmap(one)(events)
    return points / scale, scores * scale
