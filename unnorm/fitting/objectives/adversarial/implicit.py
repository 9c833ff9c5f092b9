"""Implicit generators, of which draws are cheap and the density is an integral.

Grathwohl, Kelly, Hashemi, Norouzi, Swersky and Duvenaud (2021), arXiv:2010.04230 (VERA).
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.method import method, static
from unnorm.core.random_keys import key_array, split_keys


@dataclass(frozen=True)
class ImplicitOptions:
    """How the score of an implicit generator is estimated, and its entropy bounded.

    Attributes:
        posterior_draws: of the noise behind a draw, by which its score is weighed; with few of them
            the entropy's gradient is too small.
        bound_draws: of the noise, over which the density is averaged for the bound.
        block: draws whose density is bounded at a time.
        scale: of the normal noise on draws at the start, in standard deviations of the data.
        min_scale: below it the score of a draw is too steep to be weighed.
        posterior_scale: of the proposal for the noise behind a draw, at the start.
    """

    posterior_draws: int = 50
    bound_draws: int = 5_000
    block: int = 20
    scale: float = 0.1
    min_scale: float = 0.02
    posterior_scale: float = 0.2


IMPLICIT = ImplicitOptions()


class ImplicitParameters(NamedTuple):
    """What is trained: the generator's arrays, the scale of its normal noise, and the scales of the
    proposal for z.
    """

    arrays: Any
    log_scale: jax.Array
    log_posterior_scale: jax.Array  # (noise dimension,)


@method
class ImplicitGenerator:
    """u = centre + factor · y, y = g(z) + s ε, with z and ε standard normal.

    Attributes:
        parameters: what is trained.
        centre, factor: (D,) and (D, D), of the data.
        skeleton: what of g is no floating array.
        noise_dimension: of z.
    """

    parameters: ImplicitParameters
    centre: Any
    factor: Any
    skeleton: Any = static()
    noise_dimension: int = static()

    def with_parameters(self, parameters: Any) -> "ImplicitGenerator":
        """The same generator with other parameters."""
        return replace(self, parameters=parameters)

    def _means(self, noise: jax.Array) -> jax.Array:
        """g at many z, (..., noise dimension)."""
        import equinox as eqx

        treedef, leaves = self.skeleton
        function = eqx.combine(self.parameters.arrays, jax.tree.unflatten(treedef, leaves))
        flat = noise.reshape(-1, noise.shape[-1])
        return jax.vmap(function)(flat).reshape(*noise.shape[:-1], len(self.centre))

    @property
    def _scale(self) -> jax.Array:
        return IMPLICIT.min_scale + jnp.exp(self.parameters.log_scale)

    def _draw(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """z (n, noise dimension), and y (n, D)."""
        noise_key, key = split_keys(key)
        dtype = self.centre.dtype
        noise = jax.random.normal(noise_key, (n, self.noise_dimension), dtype)
        blur = jax.random.normal(key, (n, len(self.centre)), dtype)
        return noise, self._means(noise) + self._scale * blur

    def draw(self, key: jax.Array, n: int) -> tuple[jax.Array, None]:
        """Points (n, D); their log-densities are not at hand."""
        return self.centre + self._draw(key, n)[1] @ self.factor.T, None

    def points_and_entropy_term(
        self, key: jax.Array, n: int, options: ImplicitOptions = IMPLICIT
    ) -> tuple[jax.Array, jax.Array]:
        """Points (n, D), and a term whose gradient is that of −H(q), up to importance sampling.

        ∇ −H = E[∇_y log q(y) · ∂y]. The score is the mean of (g(z) − y) / s² over z given y, with
        draws around the z that y came from as a proposal, whose scales a lower bound teaches.
        """
        draw_key, key = split_keys(key)
        noise, y = self._draw(draw_key, n)
        scales = jnp.exp(self.parameters.log_posterior_scale)
        shape = (options.posterior_draws, *noise.shape)
        moved = jax.lax.stop_gradient(noise) + scales * jax.random.normal(key, shape, y.dtype)
        fixed = self.with_parameters(jax.lax.stop_gradient(self.parameters))
        at = jax.lax.stop_gradient(y)
        means = fixed._means(moved)
        log_joint = _log_normal(at - means, fixed._scale) + _log_normal(moved, 1.0)
        log_weights = log_joint - _log_normal(moved - jax.lax.stop_gradient(noise), scales)
        lower_bound = log_weights.mean()
        weights = jax.lax.stop_gradient(jax.nn.softmax(log_weights, 0))
        score = jnp.einsum("kn,knd->nd", weights, means - at) / fixed._scale**2
        term = jnp.mean(jnp.sum(jax.lax.stop_gradient(score) * y, -1)) - lower_bound
        return self.centre + y @ self.factor.T, term

    def draw_with_upper_log_prob(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """Points (n, D), and values whose mean is at least E log q.

        The density averaged over the z that a draw came from and independent ones (Yin and Zhou,
        2018, arXiv:1805.11183).
        """
        draw_key, key = split_keys(key)
        noise, y = self._draw(draw_key, n)
        shape = (IMPLICIT.bound_draws, self.noise_dimension)
        own = _log_normal(y - self._means(noise), self._scale)

        def one(given):
            point, own, key = given
            others = self._means(jax.random.normal(key, shape, y.dtype))
            values = jnp.append(_log_normal(point - others, self._scale), own)
            return jax.nn.logsumexp(values) - math.log(len(values))

        given = (y, own, key_array(key, n))
        log_prob = jax.lax.map(one, given, batch_size=IMPLICIT.block)
        log_det = jnp.sum(jnp.log(jnp.diag(self.factor)))
        return self.centre + y @ self.factor.T, log_prob - log_det


def _log_normal(offset: jax.Array, scale: Any) -> jax.Array:
    """The log-density of independent normal entries along the last axis."""
    scale = jnp.broadcast_to(scale, offset.shape[-1:])
    squares = jnp.sum((offset / scale) ** 2, -1)
    size = offset.shape[-1]
    return -0.5 * squares - jnp.sum(jnp.log(scale)) - 0.5 * size * math.log(2 * math.pi)


def hold_implicit(
    function: Any, noise_dimension: int, centre: jax.Array, factor: jax.Array
) -> ImplicitGenerator:
    """The generator of an Equinox module, with its floating arrays in the dtype of the data."""
    import equinox as eqx

    dtype = centre.dtype
    arrays, rest = eqx.partition(function, eqx.is_inexact_array)
    arrays = jax.tree.map(functools.partial(jnp.asarray, dtype=dtype), arrays)
    leaves, treedef = jax.tree.flatten(rest)
    parameters = ImplicitParameters(
        arrays,
        jnp.log(jnp.asarray(IMPLICIT.scale - IMPLICIT.min_scale, dtype)),
        jnp.full(noise_dimension, math.log(IMPLICIT.posterior_scale), dtype),
    )
    return ImplicitGenerator(parameters, centre, factor, (treedef, tuple(leaves)), noise_dimension)


__all__ = ["IMPLICIT", "ImplicitGenerator", "ImplicitOptions", "hold_implicit"]
