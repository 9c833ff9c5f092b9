"""Denoising score matching: the score of the data with normal noise added, at one level or many."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import WARNING, Finding, FindingCode
from unnorm.core.method import method, option, static
from unnorm.core.random_keys import split_keys
from unnorm.declaration.noise_levels import LEVEL, NoiseLevels, read_levels
from unnorm.fitting.base import LossObjective, ObjectiveState, Traits
from unnorm.fitting.checks.integration_by_parts import smoothness_findings
from unnorm.fitting.data.read import event_size
from unnorm.fitting.objectives.auxiliary_noise import (
    at_draws,
    draw_variance,
    label_names,
    point_of,
    refuse_bounds,
    refuse_one_row,
    shift_draws,
)
from unnorm.integration.representative_rows import count_of
from unnorm.supports.base import has_network


@dataclass(frozen=True)
class SmoothingCriteria:
    """How wide the noise may be."""

    # of σ to the smallest standard deviation of the data: the variance of the fit is then 5-fold
    max_ratio: float = 2.0


class Corruptions(NamedTuple):
    """Noise for every row, and the standard deviation that it is multiplied by."""

    sigma: jax.Array  # (n, m)
    noise: jax.Array  # (n, m, d), standard normal


@method
class DenoisingScoreMatching(LossObjective):
    """Minimise mean_i mean_r ½ ‖σ ∇ log p̃(x_i + σ ε_ir) + ε_ir‖², ε standard normal: only first
    derivatives in x.

    It aims at the data's density SMOOTHED by N(0, σ²I): on Gaussian data with covariance Σ it finds
    Σ + σ²I. With ``sigma=(low, high, levels)`` the density is a noise-conditional one, with the
    covariate `sigma`, and a density is fitted at every level: the mean over levels is minimised, in
    which σ² weighs the squared error of each score (Song and Ermon, 2019).
    `fit.density.given(sigma=low)` is the density at the lowest level; `fit.log_z` is its log Z.

    A label y beside x (a variable of few states) keeps its value while noise is added to x: the
    score is that of x given y, and −log p(y | x + σε) is added to the loss, by which p(y) is found.
    A label that is absent from the data is summed out.

    Args:
        sigma: standard deviation of the noise, in the units of the data: a number; the tuple
            ``(low, high, levels)``, for that many geometric levels of a noise-conditional density;
            or a list of levels, for one density that compromises between them.
        corruptions: noise points for every row (and level), drawn once; the standard errors count
            them. In training they are drawn for every batch, each at a random level.

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

        >>> by_level = un.Density(
        ...     lambda x, *, sigma, variance: -0.5 * x**2 / (variance + sigma**2),
        ...     {"x": un.Real},
        ...     {"variance": (un.Positive, 3.0)},
        ...     covariates={"sigma": un.Covariate},
        ... )
        >>> levels = un.objectives.DenoisingScoreMatching(sigma=(0.1, 2.0, 5))
        >>> fit = un.fit(by_level, data, levels, seed=0, progress=False)
        >>> round(float(fit.density.parameters["variance"]), 1)
        1.0

    References:
        Vincent (2011), doi:10.1162/NECO_a_00142; Song and Ermon (2019), arXiv:1907.05600, and
        (2020), arXiv:2006.09011 (many levels).
    """

    sigma: Any = option(above=0, array=True)
    corruptions: int = static(default=10, at_least=1)
    traits = Traits(in_data_units=True)

    def __post_init__(self) -> None:
        if isinstance(self.sigma, tuple):
            object.__setattr__(self, "sigma", read_levels(self.sigma, type(self).__name__))

    @property
    def _by_level(self) -> bool:
        """Whether a density is fitted at every level."""
        return isinstance(self.sigma, NoiseLevels)

    @property
    def noise_levels(self) -> np.ndarray | None:
        """The levels at which a noise-conditional density is fitted, from the highest to the
        lowest.
        """
        return np.asarray(self.sigma.values, float) if self._by_level else None

    @property
    def target(self) -> str:
        found = self.smoothing if self.noise_levels is None else self.noise_levels
        levels = ", ".join(f"{level:.4g}" for level in found)
        if self._by_level:
            return (
                "the data's density smoothed by normal noise, at each of the standard deviations "
                f"{levels}"
            )
        if len(found) == 1:
            return (
                "the data's density smoothed by normal noise of standard deviation "
                f"{levels}, not the density itself"
            )
        return (
            "a compromise of the data's densities smoothed by normal noise of standard deviations "
            f"{levels}"
        )

    def refuse(self, density) -> str | None:
        if not self._by_level and np.ndim(self.sigma) > 1:
            return f"sigma is {self.sigma!r}; expected a positive number, or a list of such"
        if self._by_level and (why := _no_level(density)):
            return why
        rest = _without_labels(density)
        return refuse_bounds("DenoisingScoreMatching", "adds noise that leaves any bounds", rest)

    @property
    def smoothing(self) -> tuple[float, ...]:
        """Return the standard deviations of the noise in the data that the fit aims at."""
        levels = np.ravel([np.asarray(leaf) for leaf in jax.tree.leaves(self.sigma)])
        return tuple(float(level) for level in (levels[-1:] if self._by_level else levels))

    def _levels(self) -> jax.Array:
        return jnp.stack([jnp.asarray(leaf) for leaf in jax.tree.leaves(self.sigma)]).reshape(-1)

    def prepare(self, density, events, key) -> ObjectiveState:
        refuse_one_row(self, events)
        if self._by_level and has_network(
            density.supports
        ):  # trained, and its noise drawn at every step
            return ObjectiveState(per_row=self._at_random_levels(density, events, key))
        return ObjectiveState(per_row=self._at_every_level(density, events, key))

    def resample_noise(self, density, state, events, key) -> Any:
        if self._by_level:
            return self._at_random_levels(density, events, key)
        return self._at_every_level(density, events, key)

    def _at_every_level(self, density, events, key) -> Corruptions:
        """All levels for every row, each with its corruptions."""
        rows, levels, each = count_of(events), self._levels(), int(self.corruptions)
        dtype = jnp.result_type(*(events[name] for name in density.variables))
        shape = (rows, len(levels), each, event_size(_without_labels(density).shapes()))
        noise = jax.random.normal(key, shape, dtype).reshape(rows, -1, shape[-1])
        return Corruptions(jnp.tile(jnp.repeat(levels, each), (rows, 1)), noise)

    def _at_random_levels(self, density, events, key) -> Corruptions:
        """One random level for each corruption; those of a row are spread over the levels."""
        rows, levels, each = count_of(events), self._levels(), int(self.corruptions)
        level_key, noise_key = split_keys(key)
        place = jax.random.uniform(level_key, (rows, 1), levels.dtype) + jnp.arange(each) / each
        chosen = jnp.minimum((place % 1 * len(levels)).astype(int), len(levels) - 1)
        shape = (rows, each, event_size(_without_labels(density).shapes()))
        return Corruptions(levels[chosen], jax.random.normal(noise_key, shape, levels.dtype))

    def losses(self, density, state, events) -> jax.Array:
        labels, rest = label_names(density), _without_labels(density)

        def one(event, draw):
            at_level = event | {LEVEL: draw.sigma} if self._by_level else event
            point, log_density = point_of(rest, at_level)
            moved = point + draw.sigma * draw.noise
            value, score = jax.value_and_grad(log_density)(moved)
            loss = 0.5 * jnp.sum((draw.sigma * score + draw.noise) ** 2)
            if not labels:
                return loss
            unlabelled = {name: at for name, at in at_level.items() if name not in labels}
            return loss + point_of(density._summing(labels), unlabelled)[1](moved) - value

        return at_draws(one, events, state.per_row).mean(1)

    def noise_variance(self, density, state, events) -> jax.Array | None:
        return draw_variance(
            self, density, state, events, state._replace(per_row=shift_draws(state.per_row))
        )

    def findings(self, density, state, events) -> list[Finding]:
        rest = _without_labels(density)
        found = smoothness_findings(rest, events, type(self).__name__, kinks="moving")
        return found if self._by_level else [*found, *self._of_smoothing(rest, events)]

    def _of_smoothing(self, density, events: dict) -> list[Finding]:
        """A finding where the noise is wider than the data."""
        rows = {name: jnp.asarray(value) for name, value in events.items()}
        spread = float(_spread(density, rows).min())
        if not spread or min(self.smoothing) <= SmoothingCriteria.max_ratio * spread:
            return []
        what = (
            f"sigma = {min(self.smoothing):.4g} is {min(self.smoothing) / spread:.2g} times the "
            "smallest standard deviation of the data, so that the fit describes the noise rather "
            "than the data"
        )
        advice = "give a smaller sigma"
        return [Finding(what, advice, WARNING, FindingCode.BIASED_OBJECTIVE)]


@compiled
def _spread(density, events: dict) -> jax.Array:
    """The standard deviation of every entry."""
    return jax.vmap(lambda event: point_of(density, event)[0])(events).std(0)


def _without_labels(density) -> Any:
    """The density of the variables that noise is added to, given the labels."""
    labels = label_names(density)
    return density._observing(labels) if labels else density


def _no_level(density) -> str | None:
    """Return why a density is not noise-conditional, as a sentence, or None."""
    declared = density.covariates.get(LEVEL)
    if declared is None or declared.shape_axes or hasattr(density, "factors"):
        found = (
            "is a product" if hasattr(density, "factors") else f"has no scalar covariate {LEVEL}"
        )
        return (
            f"DenoisingScoreMatching(sigma=(low, high, levels)) fits a density at every noise "
            f"level, and {density.name} {found}; expected a noise-conditional density; declare "
            f"{LEVEL}: un.Covariate, or use un.models.noise_conditional_energy"
        )
    return None
