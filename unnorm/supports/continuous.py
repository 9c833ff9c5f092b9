"""Supports on the line and on the simplex."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import shown
from unnorm.supports.base import Axis, Support
from unnorm.supports.noise import Flat, Increasing, WithEventShape


class RealSupport(Support):
    """Real numbers, with Lebesgue measure: x = u, an unconstrained coordinate.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[2]})
        >>> float(p([1.0, 0.0]))
        -0.5
    """

    score_matching = "plain"

    def noise_statistics(self, value) -> jax.Array:
        flat = jnp.ravel(value)
        return jnp.concatenate([flat, jnp.ravel(jnp.outer(flat, flat))])

    def noise(self, statistics, shape) -> Any:
        """Multivariate Student t with 5 degrees of freedom and the data's mean and covariance."""
        import numpyro.distributions as dist

        size, freedom = math.prod(shape), 5.0
        mean, second = statistics[:size], statistics[size:].reshape(size, size)
        scale = jnp.linalg.cholesky((second - jnp.outer(mean, mean)) * (freedom - 2) / freedom)
        return WithEventShape(dist.MultivariateStudentT(freedom, mean, scale), shape)


class PositiveSupport(Support):
    """Non-negative numbers, x = exp(u) with u real; 0 itself is valid data.

    Score matching weights by an h with h(0) = 0.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x, *, rate: -rate * x, {"x": un.Positive}, {"rate": un.Positive})
        >>> round(un.log_z(p.bind(rate=2.0), progress=False).value, 4)
        -0.6931
    """

    score_matching = "generalized"
    expected = "numbers that are not negative"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.positive

    def valid(self, value) -> Any:
        return value >= 0

    def start(self, scalar, shape) -> np.ndarray:
        if not scalar > 0:
            raise ValueError(
                f"A start of {scalar} was given for {self!r}; it must be positive; correct it."
            )
        return np.full(shape, scalar)

    def inward(self, value) -> np.ndarray:
        where = value.__array_namespace__().where
        return where(value < np.finfo(np.float32).tiny, 1e-6, value)

    def boundary_distance(self, value) -> jax.Array:
        return value

    def noise_statistics(self, value) -> jax.Array:
        return jnp.ravel(value)

    def noise(self, statistics, shape) -> Any:
        """Independent exponentials with the data's means: gamma and lognormal noise vanish at 0 and
        fail there.
        """
        import numpyro.distributions as dist

        # NumPyro's own check counts 0 as outside, and would make the noise vanish there.
        return dist.Exponential(1.0 / statistics.reshape(shape), validate_args=False).to_event(
            len(shape)
        )

    def entry_bounds(self, index) -> tuple[float, float]:
        return (0.0, math.inf)


@dataclass(frozen=True, repr=False)
class Interval(Support):
    """An interval, x = lower + (upper − lower) σ(u) with u real; its bounds are valid data.

    Args:
        axes: the dimensions, written in brackets: ``un.Interval(0, 1)["d"]``.
        lower: the lower bound, finite.
        upper: the upper bound, finite.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: 0.0, {"x": un.Interval(0, 3)})
        >>> round(un.log_z(p, progress=False).value, 4)  # log 3
        1.0986
    """

    score_matching = "generalized"
    axes: tuple[Axis, ...] = ()
    lower: float = 0.0
    upper: float = 1.0

    def __init__(self, lower: float, upper: float, axes: tuple[Axis, ...] = ()) -> None:
        good = all(
            np.ndim(bound) == 0 and np.asarray(bound).dtype.kind in "fiu"
            for bound in (lower, upper)
        )
        if not (good and math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            raise ValueError(
                f"Interval was given the bounds {shown(lower)}, {shown(upper)}; expected two "
                "finite numbers, the lower first; use un.Positive or un.Real for a variable "
                "without a bound."
            )
        for field, value in (("lower", float(lower)), ("upper", float(upper)), ("axes", axes)):
            object.__setattr__(self, field, value)

    def _options(self):
        return f"({self.lower:g}, {self.upper:g})"

    @property
    def expected(self) -> str:  # type: ignore[override]
        return f"numbers from {self.lower:g} to {self.upper:g}"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.interval(self.lower, self.upper)

    def valid(self, value) -> Any:
        return (value >= self.lower) & (value <= self.upper)

    def inward(self, value) -> np.ndarray:
        # On the bound is what float32 cannot tell from it; a value that is merely near it stays.
        low, high = (
            4 * float(np.finfo(np.float32).eps) * abs(bound) for bound in (self.lower, self.upper)
        )
        margin = 1e-6 * (self.upper - self.lower)
        where = value.__array_namespace__().where
        value = where(value <= self.lower + low, self.lower + max(margin, 2 * low), value)
        return where(value >= self.upper - high, self.upper - max(margin, 2 * high), value)

    def boundary_distance(self, value) -> jax.Array:
        return jnp.minimum(value - self.lower, self.upper - value)

    def noise(self, statistics, shape) -> Any:
        import numpyro.distributions as dist

        return dist.Uniform(self.lower, self.upper).expand(shape).to_event(len(shape))

    def entry_bounds(self, index) -> tuple[float, float]:
        return (self.lower, self.upper)


class SimplexSupport(Support):
    """Vectors of shares, x_i ≥ 0 with Σ x_i = 1, by breaking a stick.

    The measure is Lebesgue's on the first k − 1 coordinates, as that of a Dirichlet density is.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: 0.0 * x.sum(), {"x": un.Simplex[3]})
        >>> round(un.log_z(p, progress=False).value, 4)  # a triangle of area 1/2
        -0.6931
    """

    score_matching = "simplex"
    needs_axis = True
    expected = "vectors of non-negative numbers that sum to 1 along the last axis"
    measure = "Lebesgue on the first k - 1 coordinates"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.simplex

    def constrain(self, free) -> jax.Array:
        """Break the stick in logarithms: no part is a difference from 1, so that the smallest keep
        all their digits.
        """
        tiny = jnp.finfo(jnp.result_type(free)).tiny
        return jnp.maximum(jnp.exp(self._log_parts(free)[0]), tiny)

    def unconstrain(self, value) -> jax.Array:
        """The logits of each part among what was left of the stick, by sums of the parts after
        it.
        """
        value = jnp.asarray(value)
        after = jnp.cumsum(value[..., ::-1], axis=-1)[..., ::-1][..., 1:]
        return jnp.log(value[..., :-1]) - jnp.log(after) - self._balance(after.shape[-1])

    def log_det(self, free) -> jax.Array:
        log_parts, log_rests = self._log_parts(free)
        return jnp.sum(log_parts[..., :-1] + log_rests)

    def _log_parts(self, free):
        """The logs of all parts, and of the share 1 - z that each break leaves of what there
        was.
        """
        logits = jnp.asarray(free) + self._balance(jnp.shape(free)[-1])
        log_rests = jax.nn.log_sigmoid(-logits)
        left = jnp.cumsum(log_rests, axis=-1)
        left = jnp.concatenate([jnp.zeros_like(left[..., :1]), left], -1)
        log_breaks = jnp.concatenate(
            [jax.nn.log_sigmoid(logits), jnp.zeros_like(left[..., :1])], -1
        )
        return log_breaks + left, log_rests

    @staticmethod
    def _balance(size: int) -> jax.Array:
        """What makes 0 the centre of the simplex."""
        return -jnp.log(size - jnp.arange(size))

    def free_shape(self, shape) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] - 1)

    def valid(self, value) -> Any:
        return (value >= 0).all(-1) & (abs(value.sum(-1) - 1) < 1e-5)

    def start(self, scalar, shape) -> np.ndarray:
        """The centre, whatever the scalar."""
        return np.full(shape, 1.0 / shape[-1])

    def inward(self, value) -> np.ndarray:
        numbers = value.__array_namespace__()
        raised = numbers.maximum(value, 1e-6)
        inside = (value > 0).all(-1, keepdims=True)
        return numbers.where(inside, value, raised / raised.sum(-1, keepdims=True))

    def jitter(self, value, displacement) -> jax.Array:
        return value + displacement - displacement.mean(-1, keepdims=True)  # the sum stays 1

    def noise(self, statistics, shape) -> Any:
        import numpyro.distributions as dist

        log_volume = -math.prod(shape[:-1]) * math.lgamma(shape[-1])
        return Flat(
            dist.Dirichlet(jnp.ones(shape)).to_event(len(shape) - 1), log_volume, len(shape)
        )

    def entry_bounds(self, index) -> tuple[float, float]:
        return (0.0, 1.0)


class OrderedSupport(Support):
    """Increasing vectors, x_1 = u_1 and x_(i+1) = x_i + exp(u_(i+1)) with u real.

    It makes the labels of a mixture's components unique.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: -0.5 * x @ x, {"x": un.Ordered[2]})
        >>> round(un.log_z(p, progress=False).value, 4)  # log(2π / 2!)
        1.1447
    """

    needs_axis = True
    expected = "vectors that increase along the last axis"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.ordered_vector

    def valid(self, value) -> Any:
        return (value[..., 1:] >= value[..., :-1]).all(-1)

    def start(self, scalar, shape) -> np.ndarray:
        """Evenly spaced by 1 around the scalar."""
        return np.broadcast_to(scalar + np.arange(shape[-1]) - (shape[-1] - 1) / 2, shape).copy()

    def inward(self, value) -> np.ndarray:
        gaps = np.diff(value, axis=-1)
        raised = np.cumsum(np.maximum(gaps, 1e-6 * (1 + abs(value).max(-1, keepdims=True))), -1)
        moved = np.concatenate([value[..., :1], value[..., :1] + raised], -1)
        return np.where((gaps > 0).all(-1, keepdims=True), value, moved)

    def noise_statistics(self, value) -> jax.Array:
        first = value[..., 0]
        return jnp.concatenate(
            [jnp.ravel(part) for part in (first, first**2, jnp.diff(value, axis=-1))]
        )

    def noise(self, statistics, shape) -> Any:
        """First entries of Student's t with 5 degrees of freedom, gaps that are exponential:
        positive at ties.
        """
        import numpyro.distributions as dist

        count, freedom = math.prod(shape[:-1]), 5.0
        mean, second, gaps = (
            statistics[:count],
            statistics[count : 2 * count],
            statistics[2 * count :],
        )
        scale = jnp.sqrt((second - mean**2) * (freedom - 2) / freedom)
        first = dist.StudentT(freedom, mean.reshape(shape[:-1]), scale.reshape(shape[:-1]))
        rates = 1.0 / gaps.reshape(*shape[:-1], shape[-1] - 1)
        # NumPyro's own check counts a gap of 0 as outside.
        return Increasing(first, dist.Exponential(rates, validate_args=False), len(shape))


Real, Positive, Simplex, Ordered = (
    RealSupport(),
    PositiveSupport(),
    SimplexSupport(),
    OrderedSupport(),
)
