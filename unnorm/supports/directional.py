"""Angles and directions."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.supports.base import Support
from unnorm.supports.continuous import Interval
from unnorm.supports.noise import Flat


def wrap_angle(angle) -> jax.Array:
    """The angle in [-π, π)."""
    return angle - 2 * math.pi * jnp.floor((angle + math.pi) / (2 * math.pi))


class CircleSupport(Support):
    """Angles in radians, −π ≤ x < π, with arc length.

    Chains move on the line that is wrapped around the circle, so that it has no cut.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: 0.0 * x, {"x": un.Circle})
        >>> round(un.log_z(p, progress=False).value, 4)  # log(2π)
        1.8379
    """

    score_matching = "circle"
    expected = "angles from -pi to pi"

    def constrain(self, free) -> jax.Array:
        return wrap_angle(jnp.asarray(free))

    def unconstrain(self, value) -> jax.Array:
        return jnp.asarray(value)

    def log_det(self, free) -> jax.Array:
        return jnp.zeros((), jnp.result_type(free))

    def canonical(self, free) -> jax.Array:
        return wrap_angle(free)

    def deviation(self, free, centre) -> tuple[jax.Array, jax.Array]:
        return jnp.sin(free - centre), jnp.cos(free - centre)

    @property
    def chart(self) -> Support:
        return Interval(-math.pi, math.pi, self.axes)

    def valid(self, value) -> Any:
        return abs(value) <= math.pi * (1 + 1e-6)

    def random_free(self, key, shape, dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -math.pi, math.pi)

    def noise(self, statistics, shape) -> Any:
        import numpyro.distributions as dist

        uniform = dist.Uniform(-math.pi, math.pi).expand(shape).to_event(len(shape))
        return Flat(uniform, math.prod(shape) * math.log(2 * math.pi), len(shape))


class SphereSupport(Support):
    """Unit vectors along the last axis, x = u / |u|, with the surface's measure.

    The length of u is an auxiliary variable: u is given the density p(u / |u|) · N(u; 0, I) · (the
    sphere's area), whose integral over R^n is that of p over the surface. A random walk moves along
    geodesics instead and keeps |u|.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Sphere[3]})
        >>> round(un.log_z(p, progress=False).value, 4)  # log(4π)
        2.531
    """

    needs_axis = True
    bijective = False
    score_matching = "sphere"
    learnable = False  # the length of u would be a parameter that the data say nothing about
    measure = "surface"
    expected = "vectors of length 1 along the last axis"

    def constrain(self, free) -> jax.Array:
        free = jnp.asarray(free)
        return free / jnp.linalg.norm(free, axis=-1, keepdims=True)

    def unconstrain(self, value) -> jax.Array:
        return jnp.asarray(value)

    def log_det(self, free) -> jax.Array:
        size, vectors = free.shape[-1], math.prod(free.shape[:-1])
        return -0.5 * jnp.sum(jnp.square(free)) + vectors * (
            log_area(size) - 0.5 * size * math.log(2 * math.pi)
        )

    @property
    def chart(self) -> Support:
        return StereographicSupport(self.axes)

    def far_on_chart(self, values) -> bool:
        return bool(np.mean(np.asarray(values)[..., -1]) > 0)  # nearer to the pole that is left out

    def lift(self, value, key) -> jax.Array:
        """The direction with a length of its own law, the chi of n degrees of freedom."""
        squares = jnp.square(jax.random.normal(key, value.shape, value.dtype))
        return value * jnp.sqrt(squares.sum(-1, keepdims=True))

    def walk(self, free, displacement) -> jax.Array:
        length = jnp.linalg.norm(free, axis=-1, keepdims=True)
        place = free / length
        tangent = displacement - place * jnp.sum(place * displacement, -1, keepdims=True)
        angle = jnp.maximum(
            jnp.linalg.norm(tangent, axis=-1, keepdims=True), jnp.finfo(free.dtype).tiny
        )
        return length * (jnp.cos(angle) * place + jnp.sin(angle) * tangent / angle)

    def valid(self, value) -> Any:
        return abs((value**2).sum(-1) - 1) < 1e-5

    def start(self, scalar, shape) -> np.ndarray:
        """The same in every coordinate, whatever the scalar."""
        return np.full(shape, shape[-1] ** -0.5)

    def random_free(self, key, shape, dtype) -> jax.Array:
        return jax.random.normal(key, shape, dtype)

    def noise(self, statistics, shape) -> Any:
        import numpyro.distributions as dist

        vectors = math.prod(shape[:-1])
        return Flat(
            _UniformDirections(dist.Normal().expand(shape)),
            vectors * log_area(shape[-1]),
            len(shape),
        )

    def entry_bounds(self, index) -> tuple[float, float]:
        return (-1.0, 1.0)


class StereographicSupport(SphereSupport):
    """The sphere without a pole, projected onto the plane through its equator: what is integrated
    over.
    """

    bijective = True

    def free_shape(self, shape) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] - 1)

    def constrain(self, free) -> jax.Array:
        free = jnp.asarray(free)
        squared = jnp.sum(jnp.square(free), -1, keepdims=True)
        return jnp.concatenate([2 * free, squared - 1], -1) / (squared + 1)

    def unconstrain(self, value) -> jax.Array:
        value = jnp.asarray(value)
        rest, last = value[..., :-1], value[..., -1:]
        # 1 − last = |rest|² / (1 + last), which does not cancel near the pole
        above, below = jnp.sum(jnp.square(rest), -1, keepdims=True), 1 - last
        north = last > 0
        return rest * jnp.where(north, 1 + last, 1.0) / jnp.where(north, above, below)

    def log_det(self, free) -> jax.Array:
        return jnp.sum(free.shape[-1] * (math.log(2) - jnp.log1p(jnp.sum(jnp.square(free), -1))))

    def lift(self, value, key) -> jax.Array:
        return self.unconstrain(value)

    def random_free(self, key, shape, dtype) -> jax.Array:
        return self.unconstrain(
            self.constrain(jax.random.normal(key, self.free_shape(shape), dtype))
        )


def log_area(size: int) -> float:
    """The log of the surface of the unit sphere in R^size: 2 π^(n/2) / Γ(n/2)."""
    return math.log(2) + 0.5 * size * math.log(math.pi) - math.lgamma(size / 2)


class _UniformDirections:
    """Directions of normal vectors."""

    def __init__(self, normal) -> None:
        self.normal = normal

    def sample(self, key, sample_shape=()):
        drawn = self.normal.sample(key, sample_shape)
        return drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)


Circle, Sphere = CircleSupport(), SphereSupport()
