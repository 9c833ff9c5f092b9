"""Supports of integers: two values, categories, counts and graphs."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import shown
from unnorm.supports.base import Axis, Support
from unnorm.supports.matrices import Matrix
from unnorm.supports.noise import FreeEntries, Independent, TwoPoint


class DiscreteSupport(Support):
    """What discrete supports share: a value is its own coordinate, and the measure counts."""

    discrete = True
    learnable = False
    measure = "counting"

    def constrain(self, free) -> jax.Array:
        return jnp.asarray(free)

    def unconstrain(self, value) -> jax.Array:
        return jnp.asarray(value)

    def log_det(self, free) -> jax.Array:
        return jnp.zeros(())


class TwoValueSupport(DiscreteSupport):
    """What Binary and Spin share."""

    score_matching = "ratio"

    def valid(self, value) -> Any:
        return (value == self.states[0]) | (value == self.states[1])

    def random_free(self, key, shape, dtype) -> jax.Array:
        low, high = self.states
        return jnp.where(jax.random.bernoulli(key, 0.5, self.free_shape(shape)), high, low).astype(
            dtype
        )

    def noise_statistics(self, value) -> jax.Array:
        return jnp.ravel(value == self.states[1]).astype(float)

    def noise(self, statistics, shape) -> Any:
        """Independent entries with the data's margins, kept off 0 and 1 so that the noise is
        positive everywhere.
        """
        return TwoPoint(jnp.clip(statistics, 1e-3, 1 - 1e-3).reshape(shape), self.states)


class BinarySupport(TwoValueSupport):
    """Bits, x = 0 or 1, with counting measure; the function sees floats.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: x.sum(), {"x": un.Binary[2]})
        >>> round(un.log_z(p, progress=False).value, 4)  # 2 log(1 + e)
        2.6265
    """

    states = (0.0, 1.0)
    expected = "0 or 1"


class SpinSupport(TwoValueSupport):
    """Spins, x = −1 or 1, with counting measure; the function sees floats.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: x[0] * x[1], {"x": un.Spin[2]})
        >>> round(un.log_z(p, progress=False).value, 4)  # log(2e + 2/e)
        1.8201
    """

    states = (-1.0, 1.0)
    expected = "-1 or 1"


@dataclass(frozen=True, repr=False)
class Categorical(DiscreteSupport):
    """One of k categories; data and draws hold the codes x = 0, …, k − 1.

    The function sees one-hot floats of shape (..., k), so that gradients exist.

    Args:
        axes: the dimensions, written in brackets: ``un.Categorical(3)["d"]``.
        k: the number of categories.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> p = un.Density(lambda x: x @ np.log([1.0, 2.0, 3.0]), {"x": un.Categorical(3)})
        >>> round(float(un.log_z(p, progress=False).value), 4)  # log 6
        1.7918
    """

    score_matching = "ratio"
    axes: tuple[Axis, ...] = ()
    categories: int = 2

    def __init__(self, categories: int, axes: tuple[Axis, ...] = ()) -> None:
        most = 2**20  # the function sees a one-hot vector of them
        whole = isinstance(categories, int | np.integer) and not isinstance(categories, bool)
        if not whole or not 2 <= categories <= most:
            raise ValueError(
                f"Categorical was given {shown(categories)}; expected the number of categories, "
                f"at least 2 and at most {most:,}; pass, for example, un.Categorical(3)."
            )
        categories = int(categories)
        object.__setattr__(self, "categories", categories)
        object.__setattr__(self, "axes", axes)

    def _options(self):
        return f"({self.categories})"

    @property  # type: ignore[override]  # they depend on the options
    def states(self) -> tuple[float, ...]:
        return tuple(map(float, range(self.categories)))

    @property
    def expected(self) -> str:  # type: ignore[override]
        return f"integers from 0 to {self.categories - 1}"

    def encode(self, value) -> jax.Array:
        if jnp.ndim(value) > len(self.axes):  # one-hot already: a gradient is taken there
            return value
        dtype = value.dtype if jnp.issubdtype(jnp.result_type(value), jnp.floating) else None
        return jax.nn.one_hot(jnp.asarray(value, int), self.categories, dtype=dtype)

    def valid(self, value) -> Any:
        return (value >= 0) & (value < self.categories) & (value % 1 == 0)

    def random_free(self, key, shape, dtype) -> jax.Array:
        return jax.random.randint(key, shape, 0, self.categories).astype(dtype)

    def noise_statistics(self, value) -> jax.Array:
        return jnp.ravel(jax.nn.one_hot(jnp.asarray(value, int), self.categories, dtype=float))

    def noise(self, statistics, shape) -> Any:
        """Independent entries with the data's margins, kept off 0."""
        import numpyro.distributions as dist

        probabilities = jnp.clip(statistics.reshape(*shape, self.categories), 1e-3, None)
        law = dist.Categorical(
            probabilities / probabilities.sum(-1, keepdims=True), validate_args=False
        )
        return Independent(law, len(shape), statistics.dtype)


class CountSupport(DiscreteSupport):
    """Counts, x = 0, 1, 2, …, with counting measure; the function sees floats.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda x: -x, {"x": un.Count})
        >>> round(un.log_z(p, progress=False).value, 4)  # −log(1 − 1/e)
        0.4587
    """

    score_matching = "ordinal"
    expected = "non-negative integers"

    def walk(self, free, displacement) -> jax.Array:
        # At least one step: a move of none would be a proposal wasted.
        return free + jnp.sign(displacement) * jnp.ceil(jnp.abs(displacement))

    def valid(self, value) -> Any:
        return (value >= 0) & (value % 1 == 0)

    def random_free(self, key, shape, dtype) -> jax.Array:
        return jax.random.randint(key, shape, 0, 5).astype(dtype)

    def noise_statistics(self, value) -> jax.Array:
        return jnp.ravel(value)

    def noise(self, statistics, shape) -> Any:
        """Independent geometric entries with the data's means: their tails are heavier than a
        Poisson's.
        """
        import numpyro.distributions as dist

        mean = jnp.maximum(statistics.reshape(shape), 1e-3)
        return Independent(
            dist.GeometricProbs(1 / (1 + mean), validate_args=False), len(shape), statistics.dtype
        )

    def entry_bounds(self, index) -> tuple[float, float]:
        return (0.0, math.inf)


@dataclass(frozen=True, repr=False)
class GraphSupport(TwoValueSupport, Matrix):
    """An undirected graph without loops, x_ij = x_ji = 0 or 1, x_ii = 0; with
    ``Graph(directed=True)`` x_ij and x_ji may differ.

    One graph is one event; its coordinates are the pairs i < j, of a directed one the pairs i ≠ j,
    row by row.

    Args:
        axes: the dimension, written in brackets: ``un.Graph["d"]``.
        directed: whether a tie from i to j is another than that from j to i.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(lambda y: 0.0 * y.sum(), {"y": un.Graph[4]})
        >>> round(un.log_z(p, progress=False).value, 4)  # 6 log 2
        4.1589
    """

    states = (0.0, 1.0)
    samplable = True
    directed: bool = False

    def __call__(self, *, directed: bool = False) -> "GraphSupport":
        return replace(self, directed=directed)

    def _options(self):
        return "(directed=True)" if self.directed else ""

    @property
    def expected(self) -> str:  # type: ignore[override]  # it depends on the option
        kind = "matrix" if self.directed else "symmetric matrix"
        return f"a {kind} of 0 and 1 with a zero diagonal"

    def _upper(self, size: int):
        """The rows and columns of the free entries."""
        return np.nonzero(~np.eye(size, dtype=bool)) if self.directed else np.triu_indices(size, 1)

    def free_shape(self, shape) -> tuple[int, ...]:
        pairs = shape[-1] * (shape[-1] - 1)
        return (*shape[:-2], pairs if self.directed else pairs // 2)

    def constrain(self, free) -> jax.Array:
        free = jnp.asarray(free)
        pairs = free.shape[-1] * (1 if self.directed else 2)
        size = (1 + math.isqrt(1 + 4 * pairs)) // 2
        rows, columns = self._upper(size)
        matrix = jnp.zeros((*free.shape[:-1], size, size), free.dtype)
        matrix = matrix.at[..., rows, columns].set(free)
        return matrix if self.directed else matrix.at[..., columns, rows].set(free)

    def unconstrain(self, value) -> jax.Array:
        value = jnp.asarray(value)
        rows, columns = self._upper(value.shape[-1])
        return value[..., rows, columns]

    def valid(self, value) -> Any:
        two_valued = ((value == 0) | (value == 1)).all((-1, -2))
        loops = value.diagonal(axis1=-2, axis2=-1).any(-1) if hasattr(value, "diagonal") else False
        good = two_valued & ~loops
        return good if self.directed else good & (value == value.swapaxes(-1, -2)).all((-1, -2))

    def noise_statistics(self, value) -> jax.Array:
        return jnp.ravel(self.unconstrain(value)).astype(float)  # type: ignore[misc]

    def noise(self, statistics, shape) -> Any:
        """Independent ties with the data's margins."""
        free = self.free_shape(shape)  # type: ignore[misc]
        margins = jnp.clip(statistics, 1e-3, 1 - 1e-3).reshape(free)
        return FreeEntries(TwoPoint(margins, self.states), self)


Binary, Spin, Count, Graph = BinarySupport(), SpinSupport(), CountSupport(), GraphSupport()
