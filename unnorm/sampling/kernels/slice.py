"""Slice sampling: along each coordinate, and on the ellipses of a Gaussian factor."""

import dataclasses
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
from blackjax.mcmc import slice as blackjax_slice
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import compiled
from unnorm.core.method import method, option, static
from unnorm.declaration.density import cast
from unnorm.sampling.base import Options, SamplingAlgorithm


@method
class Slice(Options):
    """Slice sampling, coordinate by coordinate in random order, by stepping out and shrinking
    (BlackJAX's kernel).

    Args:
        width: the first width of an interval, in unconstrained coordinates.
        max_expansions: steps outward at most.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, Slice(), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10)

    References:
        Neal (2003), doi:10.1214/aos/1056562461.
    """

    width: float = option(default=2.0, above=0)
    max_expansions: int = static(default=32, at_least=1)

    def initial_tuning(self, size) -> dict[str, Any]:
        return {"width": self.width}

    def build(self, target, tuning) -> SamplingAlgorithm:
        kernel = blackjax_slice.build_coordinate_kernel(
            blackjax_slice.stepping_out,
            initial_widths=tuning["width"],
            max_expansions=self.max_expansions,
        )

        def init(position, key=None):
            return blackjax_slice.init(position, target.log_density)

        return SamplingAlgorithm(init, lambda key, state: kernel(key, state, target.log_density))

    def stats(self, info) -> dict[str, jax.Array]:
        return {"is_accepted": info.is_accepted, "n_steps": info.num_expansions + info.num_shrink}


class EllipticalState(NamedTuple):
    """A position, its log-density, and that of the likelihood alone."""

    position: dict
    logdensity: jax.Array
    likelihood: jax.Array  # the log-density without its Gaussian factor


@method
class EllipticalSlice(Options):
    """Elliptical slice sampling (BlackJAX's kernel): p(u) ∝ N(u; m, C) L(u), slices of L along
    ellipses of N.

    Args:
        mean: m in unconstrained coordinates; None: found out.
        covariance: C; None: the factors of a product whose log is quadratic in unconstrained
            coordinates are the Gaussian, found out by their Hessians at random points. Given both,
            any density is served: L is what is left of it.

    Example:
        >>> import unnorm as un
        >>> prior = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[2]})
        >>> likelihood = un.Density(lambda x: -abs(x[0] - 1.0), {"x": un.Real[2]})
        >>> draws = un.sample(prior * likelihood, EllipticalSlice(),
        ...     draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10, 2)

    References:
        Murray, Adams and MacKay (2010), arXiv:1001.0175.
    """

    mean: Any = option(default=None, array=True)
    covariance: Any = option(default=None, array=True)

    def prepare(self, target) -> Any:
        if self.covariance is not None:
            return self if self.mean is not None else dataclasses.replace(self, mean=0.0)
        found = _gaussian_factor(target)
        if found is None:
            raise ValueError(
                f"EllipticalSlice found no Gaussian factor in density {target.density.name}; "
                "expected a product such as prior * likelihood with a factor whose log is "
                "quadratic; pass mean= and covariance=, or use un.kernels.Slice."
            )
        return dataclasses.replace(self, mean=found[0], covariance=found[1])

    def build(self, target, tuning) -> SamplingAlgorithm:
        mean, covariance = jnp.asarray(self.mean), jnp.asarray(self.covariance)
        spread = covariance if covariance.ndim == 2 else None

        def log_gaussian(position):
            apart = ravel_pytree(position)[0] - mean
            scaled = apart / covariance if spread is None else jnp.linalg.solve(spread, apart)
            return -0.5 * jnp.sum(apart * scaled)

        def likelihood(position):
            return target.log_density(position) - log_gaussian(position)

        kernel = blackjax.mcmc.elliptical_slice.build_kernel(
            jnp.atleast_1d(covariance), jnp.atleast_1d(mean)
        )

        def init(position, key=None):
            value = target.log_density(position)
            return EllipticalState(position, value, value - log_gaussian(position))

        def step(key, state):
            plain = blackjax.mcmc.elliptical_slice.EllipSliceState(state.position, state.likelihood)
            new, info = kernel(key, plain, likelihood)
            value = new.logdensity + log_gaussian(new.position)
            return EllipticalState(new.position, value, new.logdensity), {"n_steps": info.subiter}

        return SamplingAlgorithm(init, step)

    def stats(self, info) -> dict[str, jax.Array]:
        return info


def _gaussian_factor(target) -> tuple[jax.Array, jax.Array] | None:
    """Mean and covariance of the factors whose log is quadratic in unconstrained coordinates; None
    without any.
    """
    with jax.enable_x64(True):
        target = cast(target, jnp.float64)
        points = [target.random_position(jax.random.key(i), jnp.float64) for i in range(3)]
        first = ravel_pytree(points[0])[0]
        curves, slopes = _curvature(target, points)
        scale = 1e-8 * (1 + jnp.abs(curves).max((1, 2, 3)))
        quadratic = jnp.abs(curves - curves[:, :1]).max((1, 2, 3)) <= scale
        precision = -jnp.where(quadratic[:, None, None], curves[:, 0], 0).sum(0)
        slope = jnp.where(quadratic[:, None], slopes, 0).sum(0)
        if not jnp.linalg.eigvalsh(precision).min() > 0:
            return None
        covariance = jnp.linalg.inv(precision)
        return first + covariance @ slope, covariance


@compiled
def _curvature(target, points: list[dict]) -> tuple[jax.Array, jax.Array]:
    """Each factor's Hessians at the points (factors, points, n, n), and its gradient at the first
    (factors, n).
    """
    unravel, curves, slopes = ravel_pytree(points[0])[1], [], []
    flats = [ravel_pytree(point)[0] for point in points]
    for factor, power in zip(target.factors, target.powers, strict=True):

        def value(flat, factor=factor, power=power):
            event = target.constrain(unravel(flat))
            return power * factor.log_density({name: event[name] for name in factor.variables})

        curves.append(jnp.stack([jax.hessian(value)(flat) for flat in flats]))
        slopes.append(jax.grad(value)(flats[0]))
    return jnp.stack(curves), jnp.stack(slopes)
