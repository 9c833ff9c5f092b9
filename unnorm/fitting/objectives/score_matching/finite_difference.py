"""Finite-difference score matching: sliced score matching from values of log p̃ alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.findings import Finding
from unnorm.core.method import method, option, static
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.checks.integration_by_parts import smoothness_findings
from unnorm.fitting.objectives.auxiliary_noise import (
    at_draws,
    draw_directions,
    draw_variance,
    point_of,
    refuse_bounds,
    shift_draws,
)


class Steps(NamedTuple):
    """The columns' standard deviations, and ε in units of them."""

    scales: jax.Array
    step: jax.Array


@method
class FiniteDifferenceScoreMatching(LossObjective):
    """Sliced score matching with differences of f = log p̃ in place of its derivatives in x.

    Minimise mean_i mean_m [f(x + εv) − 2 f(x) + f(x − εv)] / ε² + ½ [(f(x + εv) − f(x − εv)) /
    2ε]², v of entries ±1 times the column's standard deviation (which weighs the columns, as the
    Fisher divergence of scaled data does).

    Args:
        step: ε, in standard deviations of the columns; None: the eighth root of the rounding unit
            (0.011 in float64), where neither rounding nor the bias of order ε² is seen.
        projections: random directions for every row, drawn once; the standard errors count them.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x @ x,
        ...     {"x": un.Real["d"]},
        ...     {"rate": (un.Positive, 1.0)},
        ... )
        >>> data = np.array([[1.0, -1.0], [2.0, 0.0], [0.0, -2.0]])
        >>> fit = un.fit(
        ...     p, data, un.objectives.FiniteDifferenceScoreMatching(), seed=0, progress=False
        ... )
        >>> abs(float(fit.density.parameters["rate"]) - 0.6) < 0.15  # 1 / mean square
        True

    References:
        Pang, Xu, Li, Song, Ermon and Zhu (2020), arXiv:2007.03317.
    """

    step: Any = option(default=None, above=0)
    projections: int = static(default=10, at_least=1)
    target = (
        "the minimum of the sliced Fisher divergence up to the squared step (the maximum "
        "likelihood estimate only if "
        "the model is true)"
    )

    def refuse(self, density) -> str | None:
        return refuse_bounds("FiniteDifferenceScoreMatching", "steps over any bounds", density)

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        step: Any = self._step(jnp.result_type(float))
        return Traits(rounding=1 / step**2)

    def _step(self, dtype) -> jax.Array:
        return jnp.asarray(
            float(jnp.finfo(dtype).eps) ** 0.125 if self.step is None else self.step, dtype
        )

    def prepare(self, density, events, key) -> ObjectiveState:
        values = [jnp.asarray(events[name]) for name in density.variables]
        dtype = jnp.result_type(*values)
        scales = jnp.concatenate([jnp.std(value.astype(dtype), 0).reshape(-1) for value in values])
        if not bool(jnp.all(scales > 0)):
            raise ValueError(
                "A column never changes in the data; expected some spread to scale steps by; "
                "drop it, or pass more rows."
            )
        shape = (len(values[0]), int(self.projections), scales.size)
        return ObjectiveState(
            per_row=draw_directions("rademacher", key, shape, dtype),
            shared=Steps(scales, self._step(dtype)),
        )

    def resample_noise(self, density, state, events, key) -> Any:
        shape = (len(next(iter(events.values()))), *state.per_row.shape[1:])
        return draw_directions("rademacher", key, shape, state.per_row.dtype)

    def losses(self, density, state, events) -> jax.Array:
        def off(event, move):
            point, log_density = point_of(density, event)
            return log_density(point + move)

        scales, step = state.shared
        moves = step * scales * state.per_row
        here = jax.vmap(density.log_density)(events)[:, None]
        ahead, behind = at_draws(off, events, moves), at_draws(off, events, -moves)
        curvature, slope = (ahead - 2 * here + behind) / step**2, (ahead - behind) / (2 * step)
        return jnp.mean(curvature + 0.5 * slope**2, 1)

    def noise_variance(self, density, state, events) -> jax.Array | None:
        return draw_variance(
            self, density, state, events, state._replace(per_row=shift_draws(state.per_row))
        )

    def findings(self, density, state, events) -> list[Finding]:
        return smoothness_findings(density, events, type(self).__name__, kinks="none")
