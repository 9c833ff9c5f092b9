"""Annealed Langevin dynamics: from the highest noise level to the lowest."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.method import method, option, static
from unnorm.declaration.noise_levels import LEVEL, read_levels
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.adaptation import NoAdaptation
from unnorm.sampling.base import Options, ProposalInfo, SamplingAlgorithm, normals_like


class DescentState(NamedTuple):
    """What a chain shows, and where its dynamics stand: apart only where draws are denoised."""

    position: dict
    logdensity: jax.Array
    noisy: dict


class Descent(NoAdaptation):
    """Warm-up goes through the levels, the same number of steps at each; nothing is learned.

    The state is the number of the level of the next step, counted from the highest.
    """

    def begin(self, kernel, tuning, positions) -> Any:
        return jnp.zeros((), jnp.int32)

    def current(self, kernel, state, tuning, chain) -> dict:
        levels = jnp.asarray(kernel.levels, tuning[LEVEL].dtype)
        return tuning | {LEVEL: levels[state]}

    def advance(self, kernel, state, positions, info, stage) -> Any:
        count = len(kernel.levels)
        return jnp.minimum((stage[2] * count).astype(jnp.int32), count - 1)


@method
class AnnealedLangevin(Options):
    """Langevin steps x + α∇log p_σ(x) + √(2α) z with α = ε σ², while the noise level σ falls, never
    rejected, and therefore biased.

    The density is a noise-conditional one at its lowest level, `p.given(sigma=low)`. The levels are
    geometric and run within the warm-up, as many steps at each (the default 1,000 steps at 10
    levels: 100 each, as in Song and Ermon, 2019); the draws are further steps at the lowest level,
    between whose modes chains no longer move. One chain is therefore one independent draw: pass
    many chains and few draws.

    Args:
        sigma: (low, high, levels), as of `un.objectives.DenoisingScoreMatching`: from `high` to
            `low`, the level at which the density stands.
        step_size: ε, of a step in units of σ². A density that was smoothed by N(0, σ²I) has at most
            the precision 1/σ²; along such a direction the draws' variance is 1/(1 − ε/2) times the
            density's.
        denoise: whether draws are x + σ²∇log p_σ(x) at the lowest level, the mean of the data given
            x, in place of x (Tweedie's formula); the chain itself goes on from x.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x, *, sigma: -0.5 * x**2 / (1 + sigma**2), {"x": un.Real},
        ...     covariates={"sigma": un.Covariate})
        >>> kernel = un.kernels.AnnealedLangevin(sigma=(0.1, 3.0, 5))
        >>> draws = un.sample(normal.given(sigma=0.1), kernel,
        ...     draws=1, warmup=100, chains=50, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (50, 1)

    References:
        Song and Ermon (2019), arXiv:1907.05600; Jolicoeur-Martineau et al. (2021),
        arXiv:2009.05475 (the denoising step).
    """

    sigma: Any = static()
    step_size: float = option(default=0.1, above=0)
    denoise: bool = static(default=False)
    needs_gradient = True
    exact = False
    composed = True  # of many densities: suggested to nobody who did not ask for it
    adapts = Descent()
    without_warmup = "there was no warm-up, in which the noise levels are passed"
    bias = (
        "AnnealedLangevin does not reject, and passes each noise level in finitely many steps, so "
        "that its draws follow another density: variances are off by a factor of up to "
        "1/(1 - step_size/2), and modes have the weights that the descent left them"
    )

    def __post_init__(self) -> None:
        levels = np.asarray(read_levels(self._given(), type(self).__name__).values)
        sigma = (float(levels[-1]), float(levels[0]), len(levels))
        object.__setattr__(self, "sigma", sigma)

    def _given(self) -> Any:
        return np.ravel(self.sigma).tolist() if np.ndim(self.sigma) == 1 else self.sigma

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise levels from the highest to the lowest."""
        low, high, count = self.sigma
        return tuple(np.geomspace(high, low, count).tolist())

    def serves(self, support) -> bool:
        return support.score_matching in ("plain", "circle")

    def prepare(self, target: Unconstrained) -> "AnnealedLangevin":
        found = target.density.constants.get(LEVEL)
        low = self.sigma[0]
        if found is None or np.ndim(found):
            raise ValueError(
                f"AnnealedLangevin descends noise levels, and {target.density.name} has no scalar "
                f"constant {LEVEL}; expected a noise-conditional density at its lowest level; "
                f"pass p.given({LEVEL}={low:.4g}) of a density with {LEVEL}: un.Covariate."
            )
        if not np.isclose(float(found), low, rtol=1e-4):
            raise ValueError(
                f"{target.density.name} has {LEVEL} = {float(found):.4g} and AnnealedLangevin "
                f"ends at {low:.4g}; expected the same; pass p.given({LEVEL}={low:.4g}), or other "
                "levels."
            )
        return self

    def initial_tuning(self, size) -> dict[str, Any]:
        return {"step_size": self.step_size, LEVEL: self.sigma[0]}

    def noise(self, key, position) -> Any:
        return normals_like(key, position)

    def block_noise(self, key, position, steps) -> Any:
        return normals_like(key, position, (steps,))

    def build(self, target, tuning) -> SamplingAlgorithm:
        variance = tuning[LEVEL] ** 2
        length = tuning["step_size"] * variance
        density = target.density._at_constants({LEVEL: tuning[LEVEL]})
        at_level = dataclasses.replace(target, density=density)

        def init(position, key=None):
            shown = position
            if self.denoise:
                score = jax.grad(at_level.log_density)(position)
                shown = jax.tree.map(lambda x, s: x + variance * s, position, score)
            return DescentState(shown, at_level.log_density(shown), position)

        def step(noise, state):
            score = jax.grad(at_level.log_density)(state.noisy)
            move = lambda x, s, z: x + length * s + jnp.sqrt(2 * length) * z  # noqa: E731
            new = init(jax.tree.map(move, state.noisy, score, noise))
            value = new.logdensity
            return new, ProposalInfo(
                jnp.ones_like(value), jnp.array(True), jnp.isnan(value), jnp.isposinf(value)
            )

        return SamplingAlgorithm(init, step)
