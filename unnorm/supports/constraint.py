"""The support that any of NumPyro's constraints with a bijection to R^n declares."""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.supports.base import Axis, Support


@dataclass(frozen=True, repr=False)
class ConstraintSupport(Support):
    """The values that satisfy a NumPyro constraint, with the bijection that `biject_to` gives it.

    Bounds may be arrays, one per entry. All axes of a value are written out:
    ``ConstraintSupport(constraints.corr_matrix)[3, 3]``.

    Args:
        constraint: of `numpyro.distributions.constraints`, with a bijection from R^n.
        tolerance: by which a value may differ from the closest one that the bijection reaches,
            relative to its largest entry: what rounding does to matrices in single precision.

    Example:
        >>> from numpyro.distributions import constraints
        >>> support = ConstraintSupport(constraints.greater_than(1.0))["d"]
        >>> support
        GreaterThan(lower_bound=1.0)['d']
        >>> float(support.constrain(0.0)), float(support.log_det(0.0))
        (2.0, 0.0)
    """

    axes: tuple[Axis, ...] = ()
    constraint: Any = field(default=None, compare=False)
    tolerance: float = 1e-4
    key: tuple = ()

    def __init__(self, constraint: Any, axes: tuple[Axis, ...] = (), tolerance: float = 1e-4,
                 key: tuple = ()) -> None:  # fmt: skip
        constraint = jax.tree.map(_at_rest, constraint)
        leaves, structure = jax.tree.flatten(constraint)
        key = type(constraint).__name__, str(structure), *map(_content, leaves)
        fields = {"axes": axes, "constraint": constraint, "tolerance": tolerance, "key": key}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _constraint(self) -> Any:
        return self.constraint

    @property
    def needs_axis(self) -> bool:  # type: ignore[override]
        return self.constraint.event_dim > 0

    @property
    def measure(self) -> str:  # type: ignore[override]
        return "Lebesgue on the free coordinates" if self.needs_axis else "Lebesgue"

    @property
    def expected(self) -> str:  # type: ignore[override]
        return f"what satisfies NumPyro's constraint {_one_line(self.constraint)}"

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.axes))
        return _one_line(self.constraint) + (f"[{inside}]" if inside else "")

    def free_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self._transform().inverse_shape(shape))

    def valid(self, value: Any) -> Any:
        """Whether the bijection reaches each event, up to rounding; its bounds are valid data."""
        given = jnp.asarray(value)
        events = tuple(range(-self.constraint.event_dim, 0))
        reached = self.constrain(self.unconstrain(given))
        margin = self.tolerance * (1 + jnp.max(jnp.abs(given), axis=events, keepdims=True))
        good = (jnp.abs(reached - given) <= margin).all(events)
        return good if isinstance(value, jax.Array) else np.asarray(good)

    def start(self, scalar: float, shape: tuple[int, ...]) -> np.ndarray:
        """The scalar in every entry if that satisfies the constraint, else what 0 is mapped to."""
        filled = np.full(shape, scalar)
        return filled if bool(np.all(self.valid(filled))) else self._centre(shape)

    def _centre(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(self.constrain(jnp.zeros(self.free_shape(shape))), float)

    def inward(self, value: np.ndarray) -> np.ndarray:
        """Events whose coordinates are not finite, moved towards the centre by their millionth."""
        events, share = self.constraint.event_dim, 1e-6
        free = np.asarray(self.unconstrain(jnp.asarray(value)))
        batch = np.shape(value)[: np.ndim(value) - events]
        inside = np.isfinite(free).reshape(*batch, -1).all(-1).reshape(batch + (1,) * events)
        moved = (1 - share) * value + share * self._centre(np.shape(value))
        return np.where(inside, value, moved)

    def entry_bounds(self, index: tuple[int, ...]) -> tuple[float, float]:
        low = getattr(self.constraint, "lower_bound", -math.inf)
        high = getattr(self.constraint, "upper_bound", math.inf)
        return (float(np.min(low)), float(np.max(high)))


def _at_rest(leaf: Any) -> Any:
    """A bound as a Python number, which takes the precision of what it bounds, or as an array."""
    if not hasattr(leaf, "dtype"):
        return leaf
    array = np.asarray(leaf)
    return array.item() if array.size == 1 else array


def _content(leaf: Any) -> tuple:
    array = np.asarray(leaf)
    return array.shape, array.dtype.str, array.tobytes()


def _one_line(constraint: Any) -> str:
    return " ".join(repr(constraint).split())


__all__ = ["ConstraintSupport"]
