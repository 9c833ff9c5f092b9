"""What a variable or a parameter may be.

A support alone knows its bijection to R^n with log |det J|, its check, its start, its reference measure, the form of
score matching that it admits, its default noise, and which of its entries are free. No other file switches on the kind
of a support: a new support is one class here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

Axis = int | str


def _axes(item: Any) -> tuple[Axis, ...]:
    """Normalise what stands between the brackets of `Real["d", 3]`."""
    items = item if isinstance(item, tuple) else (item,)
    axes: list[Axis] = []
    for one in items:
        if isinstance(one, str):
            axes.extend(_axes(int(word))[0] if word.isdecimal() else word for word in one.split())
        elif isinstance(one, int | np.integer) and not isinstance(one, bool) and one > 0:
            axes.append(int(one))
        else:
            raise TypeError(f"A dimension was given as {one!r}; write a positive whole number or a name in quotes.")
    return tuple(axes)


@dataclass(frozen=True, repr=False)
class Declared:
    """Something that stands in a signature with declared axes: a support, a constant or a covariate."""

    axes: tuple[Axis, ...] = ()

    def __getitem__(self, item: Any):
        return replace(self, axes=_axes(item))

    @property
    def shape_axes(self) -> tuple[Axis, ...]:
        """The axes of the value itself (a matrix support repeats its last one)."""
        return self.axes

    def _options(self) -> str:
        return ""

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.axes))
        return f"{type(self).__name__.strip('_')}{self._options()}" + (f"[{inside}]" if inside else "")


class _Constant(Declared):
    """A value that is neither sampled nor learned, with its axes: ``un.Constant["school"]``."""


class _Covariate(Declared):
    """A value per event that the density is conditional on: ``un.Covariate["k"]``; Z is then a row's own."""


@dataclass(frozen=True, repr=False)
class Support(Declared):
    """Base of all supports: the real line, entry by entry. Subclasses override what differs."""

    discrete: ClassVar[bool] = False
    learnable: ClassVar[bool] = True  # may a parameter have it
    samplable: ClassVar[bool] = True  # may a variable have it
    needs_axis: ClassVar[bool] = False  # whether one value is a vector or a matrix, and never a scalar
    measure: ClassVar[str] = "Lebesgue"
    expected: ClassVar[str] = "finite numbers"
    score_matching: ClassVar[str | None] = None  # "plain", "generalized", or None where there is no form yet
    states: ClassVar[tuple[float, ...] | None] = None  # the values of one entry, where they can be enumerated

    # -- the bijection to R^n ------------------------------------------------------------------------------------
    def _transform(self):
        """NumPyro's bijection from R^n; imported late, for `import unnorm` must stay quick."""
        from numpyro.distributions import biject_to

        return biject_to(self._constraint())

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.real

    def constrain(self, free: jax.Array) -> jax.Array:
        """Map unconstrained coordinates to a value in the support."""
        return self._transform()(free)

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """Map a value strictly inside the support to unconstrained coordinates."""
        return self._transform()._inverse(jnp.asarray(value))

    def log_det(self, free: jax.Array) -> jax.Array:
        """log |det J| of `constrain` at `free`, one scalar for the whole value."""
        free = jnp.asarray(free)
        return jnp.sum(self._transform().log_abs_det_jacobian(free, self.constrain(free)))

    def free_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the unconstrained coordinates of a value of this shape."""
        return shape

    # -- checks and starts ---------------------------------------------------------------------------------------
    def valid(self, value):
        """Whether each entry (or each vector, each matrix) lies in the support; NumPy or JAX in, the same out."""
        return (jnp if isinstance(value, jax.Array) else np).isfinite(value)

    def contains(self, value: jax.Array) -> jax.Array:
        """Whether the whole value lies in the support, as a traced boolean."""
        value = jnp.asarray(value)
        return jnp.isfinite(value).all() & jnp.all(self.valid(value))

    def check(self, value: np.ndarray, name: str) -> None:
        """Raise a sentence when a value is not finite or lies outside the support."""
        value = np.asarray(value)
        if value.dtype.kind not in "fiub":
            raise ValueError(f"{name} has dtype {value.dtype}; expected numbers for {self!r}; convert it first.")
        if not np.all(np.isfinite(value)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            at = f" at index {where}" if where else ""
            raise ValueError(f"{name} holds {value[where]}{at}; expected {self.expected}; drop or impute it.")
        good = np.asarray(self.valid(value))
        if not np.all(good):
            where = tuple(int(i) for i in np.argwhere(~good)[0])
            # One line, however large the matrix: a message is a sentence.
            entry = value[where]
            found = " ".join(np.array2string(entry, precision=6, threshold=12).split()) if entry.ndim else entry
            at = f" at index {where}" if where else ""
            raise ValueError(
                f"{name} holds {found}{at}, outside {self!r}; expected {self.expected}; "
                "correct the values or declare another support."
            )

    def start(self, scalar: float, shape: tuple[int, ...]) -> np.ndarray:
        """The value that a scalar default stands for."""
        return np.full(shape, scalar)

    def inward(self, value: np.ndarray) -> np.ndarray:
        """Move a value on the boundary just inside, where the bijection is finite."""
        return value

    def random_free(self, key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
        """A start for sampling: uniform on (-2, 2) in unconstrained coordinates, as in Stan."""
        return jax.random.uniform(key, self.free_shape(shape), dtype, -2.0, 2.0)

    # -- fitting -------------------------------------------------------------------------------------------------
    def boundary_distance(self, value: jax.Array) -> jax.Array | None:
        """Distance of each entry to the nearest bound, or None where there is none (generalized score matching)."""
        return None

    def noise_statistics(self, value: jax.Array) -> jax.Array:
        """The statistics whose data means are the parameters of the default noise (flat; empty: nothing is fitted)."""
        return jnp.zeros((0,))

    def noise(self, statistics: jax.Array, shape: tuple[int, ...]):
        """The default noise, a NumPyro distribution over one value: positive at the bounds, no lighter in the tails."""
        raise ValueError(f"There is no default noise on {self!r}; pass noise= a NumPyro distribution.")

    # -- tables --------------------------------------------------------------------------------------------------
    def entries(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Indices of the entries that a table lists: each free entry once."""
        return list(np.ndindex(shape))

    def entry_bounds(self, index: tuple[int, ...]) -> tuple[float, float]:
        """The bounds of one entry, which its interval respects."""
        return (-math.inf, math.inf)


class _Real(Support):
    score_matching = "plain"

    def noise_statistics(self, value):
        flat = jnp.ravel(value)
        return jnp.concatenate([flat, jnp.ravel(jnp.outer(flat, flat))])

    def noise(self, statistics, shape):
        """Multivariate Student t with 5 degrees of freedom and the data's mean and covariance."""
        import numpyro.distributions as dist

        size, freedom = math.prod(shape), 5.0
        mean, second = statistics[:size], statistics[size:].reshape(size, size)
        scale = jnp.linalg.cholesky((second - jnp.outer(mean, mean)) * (freedom - 2) / freedom)
        return _Reshaped(dist.MultivariateStudentT(freedom, mean, scale), shape)


class _Positive(Support):
    score_matching = "generalized"
    expected = "numbers that are not negative"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.positive

    def valid(self, value):
        return value >= 0

    def start(self, scalar, shape):
        if not scalar > 0:
            raise ValueError(f"A start of {scalar} was given for {self!r}; expected a number above 0; give such a one.")
        return np.full(shape, scalar)

    def inward(self, value):
        return np.where(value < np.finfo(np.float32).tiny, 1e-6, value)

    def boundary_distance(self, value):
        return value

    def noise_statistics(self, value):
        return jnp.ravel(value)

    def noise(self, statistics, shape):
        """Independent exponentials with the data's means: gamma and lognormal noise vanish at 0 and fail there."""
        import numpyro.distributions as dist

        # NumPyro's own check counts 0 as outside, and would make the noise vanish there.
        return dist.Exponential(1.0 / statistics.reshape(shape), validate_args=False).to_event(len(shape))

    def entry_bounds(self, index):
        return (0.0, math.inf)


@dataclass(frozen=True, repr=False)
class Interval(Support):
    """An interval [lower, upper]; its bounds are valid data. ``un.Interval(0, 1)["d"]``."""

    score_matching = "generalized"
    axes: tuple[Axis, ...] = ()
    lower: float = 0.0
    upper: float = 1.0

    def __init__(self, lower: float, upper: float, axes: tuple[Axis, ...] = ()):
        if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            raise ValueError(
                f"Interval was given the bounds {lower}, {upper}; expected two finite numbers, the lower first; "
                "use un.Positive or un.Real where there is no bound."
            )
        for field, value in (("lower", float(lower)), ("upper", float(upper)), ("axes", axes)):
            object.__setattr__(self, field, value)

    def _options(self):
        return f"({self.lower:g}, {self.upper:g})"

    @property
    def expected(self):
        return f"numbers from {self.lower:g} to {self.upper:g}"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.interval(self.lower, self.upper)

    def valid(self, value):
        return (value >= self.lower) & (value <= self.upper)

    def inward(self, value):
        # On the bound is what float32 cannot tell from it; a value that is merely near it stays.
        low, high = (4 * float(np.finfo(np.float32).eps) * abs(bound) for bound in (self.lower, self.upper))
        margin = 1e-6 * (self.upper - self.lower)
        value = np.where(value <= self.lower + low, self.lower + max(margin, 2 * low), value)
        return np.where(value >= self.upper - high, self.upper - max(margin, 2 * high), value)

    def boundary_distance(self, value):
        return jnp.minimum(value - self.lower, self.upper - value)

    def noise(self, statistics, shape):
        import numpyro.distributions as dist

        return dist.Uniform(self.lower, self.upper).expand(shape).to_event(len(shape))

    def entry_bounds(self, index):
        return (self.lower, self.upper)


class _Simplex(Support):
    needs_axis = True
    expected = "vectors of non-negative numbers that sum to 1 along the last axis"
    measure = "Lebesgue on the first k - 1 coordinates"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.simplex

    def free_shape(self, shape):
        return (*shape[:-1], shape[-1] - 1)

    def valid(self, value):
        return (value >= 0).all(-1) & (abs(value.sum(-1) - 1) < 1e-5)

    def start(self, scalar, shape):
        """The centre, whatever the scalar."""
        return np.full(shape, 1.0 / shape[-1])

    def inward(self, value):
        raised = np.maximum(value, 1e-6)
        inside = (value > 0).all(-1, keepdims=True)
        return np.where(inside, value, raised / raised.sum(-1, keepdims=True))

    def noise(self, statistics, shape):
        import numpyro.distributions as dist

        log_volume = -math.prod(shape[:-1]) * math.lgamma(shape[-1])
        return _Flat(dist.Dirichlet(jnp.ones(shape)).to_event(len(shape) - 1), log_volume, len(shape))

    def entry_bounds(self, index):
        return (0.0, 1.0)


class _Ordered(Support):
    needs_axis = True
    expected = "vectors that increase along the last axis"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.ordered_vector

    def valid(self, value):
        return (value[..., 1:] >= value[..., :-1]).all(-1)

    def start(self, scalar, shape):
        """Evenly spaced by 1 around the scalar."""
        return np.broadcast_to(scalar + np.arange(shape[-1]) - (shape[-1] - 1) / 2, shape).copy()

    def inward(self, value):
        gaps = np.diff(value, axis=-1)
        raised = np.cumsum(np.maximum(gaps, 1e-6 * (1 + abs(value).max(-1, keepdims=True))), -1)
        moved = np.concatenate([value[..., :1], value[..., :1] + raised], -1)
        return np.where((gaps > 0).all(-1, keepdims=True), value, moved)


class _TwoValued(Support):
    """What Binary and Spin share: entries of two values, which are their own coordinates."""

    discrete = True
    learnable = False
    measure = "counting"

    def constrain(self, free):
        return free

    def unconstrain(self, value):
        return jnp.asarray(value)

    def log_det(self, free):
        return jnp.zeros(())

    def valid(self, value):
        return (value == self.states[0]) | (value == self.states[1])

    def random_free(self, key, shape, dtype):
        low, high = self.states
        return jnp.where(jax.random.bernoulli(key, 0.5, shape), high, low).astype(dtype)

    def noise_statistics(self, value):
        return jnp.ravel(value == self.states[1]).astype(float)

    def noise(self, statistics, shape):
        """Independent entries with the data's margins, kept off 0 and 1 so that the noise is positive everywhere."""
        return _TwoPoint(jnp.clip(statistics, 1e-3, 1 - 1e-3).reshape(shape), self.states)


class _Binary(_TwoValued):
    states = (0.0, 1.0)
    expected = "0 or 1"


class _Spin(_TwoValued):
    states = (-1.0, 1.0)
    expected = "-1 or 1"


class _Matrix(Support):
    """What matrix supports share: the last axis stands twice."""

    samplable = False
    needs_axis = True

    @property
    def shape_axes(self):
        if len(self.axes) >= 2 and self.axes[-1] == self.axes[-2]:
            return self.axes
        return (*self.axes, *self.axes[-1:])

    def _upper(self, size: int):
        return np.triu_indices(size)

    def entries(self, shape):
        rows, columns = self._upper(shape[-1])
        return [(*i, int(r), int(c)) for i in np.ndindex(shape[:-2]) for r, c in zip(rows, columns, strict=True)]

    def start(self, scalar, shape):
        """That multiple of the identity."""
        return np.broadcast_to(scalar * np.eye(shape[-1]), shape).copy()


@dataclass(frozen=True, repr=False)
class _Symmetric(_Matrix):
    """A symmetric matrix, with a zero diagonal unless ``Symmetric(diagonal=True)``; coordinates: its free entries."""

    diagonal: bool = False
    measure = "Lebesgue on the free entries"

    def __call__(self, *, diagonal: bool = False):
        return replace(self, diagonal=diagonal)

    def _options(self):
        return "(diagonal=True)" if self.diagonal else ""

    @property
    def expected(self):
        return "a symmetric matrix" + ("" if self.diagonal else " with a zero diagonal")

    def _upper(self, size):
        return np.triu_indices(size, 0 if self.diagonal else 1)

    def free_shape(self, shape):
        return (*shape[:-2], len(self._upper(shape[-1])[0]))

    def constrain(self, free):
        free, extra = jnp.asarray(free), 1 if self.diagonal else -1
        size = (math.isqrt(1 + 8 * free.shape[-1]) - extra) // 2
        rows, columns = self._upper(size)
        matrix = jnp.zeros((*free.shape[:-1], size, size), free.dtype)
        return matrix.at[..., rows, columns].set(free).at[..., columns, rows].set(free)

    def unconstrain(self, value):
        value = jnp.asarray(value)
        rows, columns = self._upper(value.shape[-1])
        return value[..., rows, columns]

    def log_det(self, free):
        return jnp.zeros(())

    def valid(self, value):
        scale = 1e-5 * (1 + abs(value).max())
        good = (abs(value - value.swapaxes(-1, -2)) <= scale).all((-1, -2))
        return good if self.diagonal else good & (abs(value * np.eye(value.shape[-1])) <= scale).all((-1, -2))


class _PositiveDefinite(_Matrix):
    expected = "a symmetric positive definite matrix"
    measure = "Lebesgue on the free entries"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.positive_definite

    def free_shape(self, shape):
        return (*shape[:-2], shape[-1] * (shape[-1] + 1) // 2)

    def valid(self, value):
        scale = 1e-5 * (1 + abs(value).max())
        smallest = (jnp if isinstance(value, jax.Array) else np).linalg.eigvalsh(value).min(-1)
        return (abs(value - value.swapaxes(-1, -2)) <= scale).all((-1, -2)) & (smallest > 0)

    def start(self, scalar, shape):
        if not scalar > 0:
            raise ValueError(f"A start of {scalar} was given for {self!r}; expected a number above 0; give such a one.")
        return super().start(scalar, shape)

    def entry_bounds(self, index):
        return (0.0, math.inf) if index[-1] == index[-2] else (-math.inf, math.inf)


class _PyTree(Support):
    """Any pytree (an Equinox network): its inexact arrays are trained, the rest is static. Parameters only."""

    samplable = False

    def entries(self, shape):
        return []


class _TwoPoint:
    """Independent entries of two given values; NumPyro's Bernoulli knows only 0 and 1."""

    def __init__(self, upper_probability: jax.Array, states: tuple[float, float]):
        self.upper_probability, self.states = upper_probability, states

    def sample(self, key, sample_shape=()):
        upper = jax.random.bernoulli(key, self.upper_probability, sample_shape + self.upper_probability.shape)
        return jnp.where(upper, self.states[1], self.states[0]).astype(self.upper_probability.dtype)

    def log_prob(self, value):
        upper, rank = self.upper_probability, self.upper_probability.ndim
        terms = jnp.where(value == self.states[1], jnp.log(upper), jnp.log1p(-upper))
        return terms.sum(tuple(range(-rank, 0)))


class _Flat:
    """A uniform distribution whose density is known; NumPyro's Dirichlet(1) is NaN where an entry is 0."""

    def __init__(self, sampler, log_volume: float, rank: int):
        self.sampler, self.log_volume, self.rank = sampler, log_volume, rank

    def sample(self, key, sample_shape=()):
        return self.sampler.sample(key, sample_shape)

    def log_prob(self, value):
        return jnp.full(value.shape[: value.ndim - self.rank], -self.log_volume, value.dtype)


class _Reshaped:
    """A distribution over a vector, seen as one over values of another shape."""

    def __init__(self, vector, shape: tuple[int, ...]):
        self.vector, self.shape = vector, shape

    def sample(self, key, sample_shape=()):
        return self.vector.sample(key, sample_shape).reshape(sample_shape + self.shape)

    def log_prob(self, value):
        return self.vector.log_prob(value.reshape(value.shape[: value.ndim - len(self.shape)] + (-1,)))


Constant, Covariate = _Constant(), _Covariate()
Real, Positive, Simplex, Ordered = _Real(), _Positive(), _Simplex(), _Ordered()
Binary, Spin = _Binary(), _Spin()
Symmetric, PositiveDefinite, PyTree = _Symmetric(), _PositiveDefinite(), _PyTree()

Transform = Callable[[jax.Array], jax.Array]
