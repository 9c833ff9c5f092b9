"""Sliced score matching: the Hessian's trace by random projections."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from unnorm.core.findings import Finding
from unnorm.core.method import method, static
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.checks.integration_by_parts import smoothness_findings
from unnorm.fitting.data.read import event_size
from unnorm.fitting.objectives.auxiliary_noise import (
    draw_directions,
    draw_variance,
    point_of,
    refuse_bounds,
    refuse_one_row,
    shift_draws,
)
from unnorm.numerics.hessian_trace import Field, by_forward_laplacian


@method
class SlicedScoreMatching(LossObjective):
    """Minimise mean_i mean_m [v_im' ∇² log p̃(x_i) v_im + ½ (v_im' ∇ log p̃(x_i))²], v random
    directions.

    The projections of a row go through the function together (a forward Laplacian). They are drawn
    once and stay:
    the standard errors count them. With `variance_reduction` the square is ½ ‖∇ log p̃(x_i)‖², its
    expectation.

    Args:
        projections: random directions for every row.
        variance_reduction: take the square's expectation in place of the square.
        directions: "rademacher" (entries ±1, whose trace of a diagonal Hessian is exact) or
            "gaussian".

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x @ x,
        ...     {"x": un.Real["d"]},
        ...     {"rate": (un.Positive, 1.0)},
        ... )
        >>> data = np.array([[1.0, -1.0], [2.0, 0.0], [0.0, -2.0]])
        >>> fit = un.fit(p, data, un.objectives.SlicedScoreMatching(projections=2), progress=False)
        >>> round(float(fit.density.parameters["rate"]), 4)  # one over the mean square
        0.6

    References:
        Song, Garg, Shi and Ermon (2019), arXiv:1905.07088.
    """

    projections: int = static(default=10, at_least=1)
    variance_reduction: bool = static(default=True)
    directions: str = static(default="rademacher", choices=("rademacher", "gaussian"))
    traits = Traits(in_data_units=True, uses_second_derivatives=True)
    max_unrolled: ClassVar[int] = 16  # projections in one unrolled pass
    directions_per_pass: ClassVar[int] = 8  # where there are more projections
    target = (
        "the minimum of the sliced Fisher divergence (the maximum likelihood estimate only if the "
        "model is true)"
    )

    def refuse(self, density) -> str | None:
        return refuse_bounds("SlicedScoreMatching", "has no form at bounds", density)

    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        values = [jnp.asarray(events[name]) for name in density.variables]
        shape = (len(values[0]), int(self.projections), event_size(density.shapes()))
        return ObjectiveState(
            per_row=draw_directions(self.directions, key, shape, jnp.result_type(*values))
        )

    def resample_noise(self, density, state, events, key) -> Any:
        shape = (len(next(iter(events.values()))), *state.per_row.shape[1:])
        return draw_directions(self.directions, key, shape, state.per_row.dtype)

    def loss_i(self, density, state, event, key) -> jax.Array:
        point, log_density = point_of(density, event)
        directions = state.per_row
        count = len(directions)
        at_once = count if count <= self.max_unrolled else self.directions_per_pass
        field = Field(directions, jnp.zeros_like(point))
        curvature, slopes = by_forward_laplacian(log_density, point, field, at_once=at_once)
        curvature = curvature / count
        if self.variance_reduction:
            gradient = jax.grad(log_density)(point)
            return curvature + 0.5 * gradient @ gradient
        return curvature + 0.5 * jnp.mean(slopes**2)

    def noise_variance(self, density, state, events) -> jax.Array | None:
        return draw_variance(
            self, density, state, events, state._replace(per_row=shift_draws(state.per_row))
        )

    def findings(self, density, state, events) -> list[Finding]:
        return smoothness_findings(density, events, type(self).__name__)
