"""Supports of matrices."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.supports.base import Axis, Support


class Matrix(Support):
    """What matrix supports share: the last axis stands twice."""

    samplable = False
    needs_axis = True

    @property
    def shape_axes(self) -> tuple[Axis, ...]:
        if len(self.axes) >= 2 and self.axes[-1] == self.axes[-2]:
            return self.axes
        return (*self.axes, *self.axes[-1:])

    def _upper(self, size: int):
        return np.triu_indices(size)

    def entries(self, shape) -> list[tuple[int, ...]]:
        rows, columns = self._upper(shape[-1])
        return [
            (*i, int(r), int(c))
            for i in np.ndindex(shape[:-2])
            for r, c in zip(rows, columns, strict=True)
        ]

    def start(self, scalar, shape) -> np.ndarray:
        """That multiple of the identity."""
        return np.broadcast_to(scalar * np.eye(shape[-1]), shape).copy()


@dataclass(frozen=True, repr=False)
class SymmetricSupport(Matrix):
    """A symmetric matrix, x_ij = x_ji, with a zero diagonal unless ``Symmetric(diagonal=True)``.

    Its coordinates are the free entries, which a table lists once. For parameters.

    Example:
        >>> import unnorm as un
        >>> p = un.Density(
        ...     lambda x, *, j: 0.5 * x @ j @ x, {"x": un.Spin["d"]}, {"j": un.Symmetric["d"]}
        ... )
        >>> q = p.bind(j=[[0.0, 1.0], [1.0, 0.0]])
        >>> float(q([1, -1]))
        -1.0
    """

    diagonal: bool = False
    measure = "Lebesgue on the free entries"

    def __call__(self, *, diagonal: bool = False) -> "SymmetricSupport":
        return replace(self, diagonal=diagonal)

    def _options(self):
        return "(diagonal=True)" if self.diagonal else ""

    @property
    def expected(self) -> str:  # type: ignore[override]
        return "a symmetric matrix" + ("" if self.diagonal else " with a zero diagonal")

    def _upper(self, size):
        return np.triu_indices(size, 0 if self.diagonal else 1)

    def free_shape(self, shape) -> tuple[int, ...]:
        return (*shape[:-2], len(self._upper(shape[-1])[0]))

    def constrain(self, free) -> jax.Array:
        free, extra = jnp.asarray(free), 1 if self.diagonal else -1
        size = (math.isqrt(1 + 8 * free.shape[-1]) - extra) // 2
        rows, columns = self._upper(size)
        matrix = jnp.zeros((*free.shape[:-1], size, size), free.dtype)
        return matrix.at[..., rows, columns].set(free).at[..., columns, rows].set(free)

    def unconstrain(self, value) -> jax.Array:
        value = jnp.asarray(value)
        rows, columns = self._upper(value.shape[-1])
        return value[..., rows, columns]

    def log_det(self, free) -> jax.Array:
        return jnp.zeros(())

    def valid(self, value) -> Any:
        scale = 1e-5 * (1 + abs(value).max())
        good = (abs(value - value.swapaxes(-1, -2)) <= scale).all((-1, -2))
        return (
            good
            if self.diagonal
            else good & (abs(value * np.eye(value.shape[-1])) <= scale).all((-1, -2))
        )


class PositiveDefiniteSupport(Matrix):
    """A symmetric positive definite matrix, x = L L' with a Cholesky factor L. For parameters.

    Example:
        >>> import unnorm as un
        >>> @un.density
        ... def normal(x: un.Real["d"], *, k: un.PositiveDefinite["d"]):
        ...     return -0.5 * x @ k @ x
        >>> z = un.log_z(normal.bind(k=[[1.0, 0.0], [0.0, 4.0]]), progress=False)
        >>> round(z.value, 4)  # log(2π / 2)
        1.1447
    """

    expected = "a symmetric positive definite matrix"
    measure = "Lebesgue on the free entries"

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.positive_definite

    def free_shape(self, shape) -> tuple[int, ...]:
        return (*shape[:-2], shape[-1] * (shape[-1] + 1) // 2)

    def valid(self, value) -> Any:
        scale = 1e-5 * (1 + abs(value).max())
        smallest = (jnp if isinstance(value, jax.Array) else np).linalg.eigvalsh(value).min(-1)
        return (abs(value - value.swapaxes(-1, -2)) <= scale).all((-1, -2)) & (smallest > 0)

    def start(self, scalar, shape) -> np.ndarray:
        if not scalar > 0:
            raise ValueError(
                f"A start of {scalar} was given for {self!r}; it must be positive; correct it."
            )
        return super().start(scalar, shape)

    def entry_bounds(self, index) -> tuple[float, float]:
        return (0.0, math.inf) if index[-1] == index[-2] else (-math.inf, math.inf)


Symmetric, PositiveDefinite = SymmetricSupport(), PositiveDefiniteSupport()
