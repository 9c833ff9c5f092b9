"""Denoising score matching: the score of the data with normal noise added."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import Finding
from unnorm.core.method import method, option, static
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.checks.integration_by_parts import smoothness_findings
from unnorm.fitting.data import event_size
from unnorm.fitting.objectives.auxiliary_noise import (
    at_draws,
    draw_variance,
    point_of,
    refuse_bounds,
    refuse_one_row,
    shift_draws,
)


@method
class DenoisingScoreMatching(LossObjective):
    """Minimise mean_i mean_r ½ ‖σ ∇ log p̃(x_i + σ ε_ir) + ε_ir‖², ε standard normal: only first
    derivatives in x.

    It aims at the data's density SMOOTHED by N(0, σ²I): on Gaussian data with covariance Σ it finds
    Σ + σ²I. With many levels the losses are averaged, and one density is fitted to all of the
    smoothed ones.

    Args:
        sigma: standard deviation of the noise, in the units of the data; a number, or a list of
            levels.
        corruptions: noise points for every row and level, drawn once; the standard errors count
            them.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, rate: -0.5 * rate * x**2, {"x": un.Real}, {"rate": (un.Positive, 1.0)}
        ... )
        >>> data = np.random.default_rng(0).normal(size=2000)
        >>> fit = un.fit(
        ...     p, data, un.objectives.DenoisingScoreMatching(sigma=1.0), seed=0, progress=False
        ... )
        >>> round(float(fit.density.parameters["rate"]), 1)  # 1 / (1 + σ²)
        0.5

    References:
        Vincent (2011), doi:10.1162/NECO_a_00142; Song and Ermon (2019), arXiv:1907.05600 (many
        levels).
    """

    sigma: Any = option(above=0, array=True)
    corruptions: int = static(default=10, at_least=1)
    traits = Traits(in_data_units=True)

    @property
    def target(self) -> str:
        levels = ", ".join(f"{level:.4g}" for level in np.atleast_1d(np.asarray(self.sigma, float)))
        if np.size(self.sigma) == 1:
            return (
                "the data's density smoothed by normal noise of standard deviation "
                f"{levels}, not the density itself"
            )
        return (
            "a compromise of the data's densities smoothed by normal noise of standard deviations "
            f"{levels}"
        )

    def refuse(self, density) -> str | None:
        if np.ndim(self.sigma) > 1:
            return f"sigma is {self.sigma!r}; expected a positive number, or a list of such"
        return refuse_bounds("DenoisingScoreMatching", "adds noise that leaves any bounds", density)

    @property
    def smoothing(self) -> tuple[float, ...]:
        """Return the standard deviations of the noise in the data that the fit aims at."""
        return tuple(
            float(level)
            for level in np.ravel([np.asarray(leaf) for leaf in jax.tree.leaves(self.sigma)])
        )

    def _levels(self) -> jax.Array:
        return jnp.stack(jax.tree.leaves(self.sigma)).reshape(-1)

    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        values = [jnp.asarray(events[name]) for name in density.variables]
        shape = (len(values[0]), np.size(self.sigma), int(self.corruptions), event_size(density))
        return ObjectiveState(per_row=jax.random.normal(key, shape, jnp.result_type(*values)))

    def resample_noise(self, density, state, events, key) -> Any:
        shape = (len(next(iter(events.values()))), *state.per_row.shape[1:])
        return jax.random.normal(key, shape, state.per_row.dtype)

    def losses(self, density, state, events) -> jax.Array:
        noise, levels = state.per_row, self._levels()
        rows, _, corruptions, size = noise.shape

        def one(event, draw):
            (sigma, noise), (point, log_density) = draw, point_of(density, event)
            return 0.5 * jnp.sum(
                (sigma * jax.grad(log_density)(point + sigma * noise) + noise) ** 2
            )

        sigma = jnp.tile(jnp.repeat(levels, corruptions), (rows, 1))
        return at_draws(one, events, (sigma, noise.reshape(rows, -1, size))).mean(1)

    def noise_variance(self, density, state, events) -> jax.Array | None:
        return draw_variance(
            self, density, state, events, state._replace(per_row=shift_draws(state.per_row))
        )

    def findings(self, density, state, events) -> list[Finding]:
        return smoothness_findings(density, events, type(self).__name__, kinks="moving")
