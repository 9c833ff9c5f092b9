"""What every support gives: its bijection to R^n with log |det J|, its check, its start, its
noise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.messages import RowLabels, shown

Axis = int | str


def _axes(item: Any) -> tuple[Axis, ...]:
    """Normalize what stands between the brackets of `Real["d", 3]`."""
    items = item if isinstance(item, tuple) else (item,)
    axes: list[Axis] = []
    for one in items:
        if isinstance(one, str):
            axes.extend(_axes(int(word))[0] if word.isdecimal() else word for word in one.split())
        elif isinstance(one, int | np.integer) and not isinstance(one, bool) and one > 0:
            axes.append(int(one))
        else:
            raise TypeError(
                f"A dimension was given as {shown(one)}; it must be a positive integer or a name; "
                "write a name in quotes."
            )
    return tuple(axes)


@dataclass(frozen=True, repr=False)
class Annotation:
    """What annotates an argument of a density: a support, a constant or a covariate, with axes."""

    axes: tuple[Axis, ...] = ()

    def __getitem__(self, item: Any) -> Self:
        return replace(self, axes=_axes(item))

    @property
    def shape_axes(self) -> tuple[Axis, ...]:
        """The axes of the value itself (a matrix support repeats its last one)."""
        return self.axes

    def _options(self) -> str:
        return ""

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.axes))
        name = type(self).__name__.removesuffix("Support").removesuffix("Annotation")
        return f"{name}{self._options()}" + (f"[{inside}]" if inside else "")


class ConstantAnnotation(Annotation):
    """A value that is neither sampled nor learned, with its axes: ``un.Constant["school"]``.

    New values compile nothing, which arrays that a function closes over do.

    Example:
        >>> import unnorm as un
        >>> @un.density
        ... def shifted(x: un.Real, *, by: un.Constant = 2.0):
        ...     return -0.5 * (x - by) ** 2
        >>> float(shifted(1.0))
        -0.5
    """


class CovariateAnnotation(Annotation):
    """A value per row that the density is conditional on: ``un.Covariate["k"]``.

    Each row then has its own Z.

    Example:
        >>> import unnorm as un
        >>> @un.density
        ... def line(y: un.Real, *, t: un.Covariate, slope: un.Real = 1.0):
        ...     return -0.5 * (y - slope * t) ** 2
        >>> float(line.given(t=2.0)(1.0))
        -0.5
    """


@dataclass(frozen=True, repr=False)
class Support(Annotation):
    """Base of all supports: the real line, entry by entry. Subclasses override what differs."""

    discrete: ClassVar[bool] = False
    learnable: ClassVar[bool] = True  # may a parameter have it
    samplable: ClassVar[bool] = True  # may a variable have it
    needs_axis: ClassVar[bool] = (
        False  # whether one value is a vector or a matrix, and never a scalar
    )
    measure: ClassVar[str] = "Lebesgue"
    expected: ClassVar[str] = "finite numbers"
    score_matching: ClassVar[str | None] = (
        None  # its form (objectives/score_matching/forms), or None where there is none
    )
    bijective: ClassVar[bool] = True  # whether a value tells its coordinates
    # The values of one entry as a tuple, or None where they cannot be states_of.
    states: ClassVar[Any] = None

    # -- the bijection to R^n ----------------------------------------------------------------------
    def _transform(self):
        """NumPyro's bijection from R^n; imported late, for `import unnorm` must stay quick."""
        from numpyro.distributions import biject_to

        return biject_to(self._constraint())

    def _constraint(self):
        from numpyro.distributions import constraints

        return constraints.real

    def numpyro_constraint(self) -> Any:
        """NumPyro's constraint for this support; None where it has none."""
        own = type(self)._constraint is not Support._constraint
        return self._constraint() if own or type(self).constrain is Support.constrain else None

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

    # -- what sampling needs beyond a bijection ----------------------------------------------------
    def encode(self, value: jax.Array) -> jax.Array:
        """What the declared function sees of a value: the value itself, but for categories."""
        return value

    def walk(self, free: jax.Array, displacement: jax.Array) -> jax.Array:
        """A symmetric move: from `free` by a displacement that is as likely as its reverse."""
        return free + displacement

    def canonical(self, free: jax.Array) -> jax.Array:
        """The one among equivalent coordinates that chains keep."""
        return free

    def jitter(self, value: jax.Array, displacement: jax.Array) -> jax.Array:
        """A move in the support's own measure that is as likely as its reverse; it may end outside
        the support.
        """
        return self.canonical(self.walk(value, displacement))

    def lift(self, value: jax.Array, key: jax.Array) -> jax.Array:
        """Coordinates that follow their own density when the value follows its density."""
        return self.unconstrain(value)

    def deviation(self, free: jax.Array, centre: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How far coordinates lie from a centre, and the derivative of that."""
        return free - centre, jnp.ones_like(free)

    @property
    def chart(self) -> "Support":
        """The support to integrate over: this one, where its coordinates are R^n one to one."""
        return self

    def far_on_chart(self, values: Any) -> bool:
        """Whether values (n, ...) lie at the end of the chart, where their coordinates have no
        centre.
        """
        return False

    # -- checks and starts -------------------------------------------------------------------------
    def valid(self, value) -> Any:
        """Whether each entry (or each vector, each matrix) lies in the support; NumPy or JAX in,
        the same out.
        """
        return (jnp if isinstance(value, jax.Array) else np).isfinite(value)

    def contains(self, value: jax.Array) -> jax.Array:
        """Whether the whole value lies in the support, as a traced boolean."""
        value = jnp.asarray(value)
        return jnp.isfinite(value).all() & jnp.all(self.valid(value))

    def check(self, value: np.ndarray, name: str, rows: RowLabels | None = None) -> None:
        """Raise a sentence when a value is not finite or lies outside the support; `rows` are the
        labels of data, whose first axis is theirs.
        """
        value = np.asarray(value)
        if value.dtype.kind not in "fiub":
            raise ValueError(
                f"{name} has dtype {value.dtype}; expected numbers for {self!r}; convert it first."
            )
        if not np.all(np.isfinite(value)):
            where, held, at = self._first(~np.isfinite(value), name, rows)
            raise ValueError(
                f"{held} holds {value[where]}{at}; expected {self.expected}; drop or impute it."
            )
        good = np.asarray(self.valid(value))
        if not np.all(good):
            where, held, at = self._first(~good, name, rows)
            # One line, however large the matrix: a message is a sentence.
            entry = value[where]
            found = (
                " ".join(np.array2string(entry, precision=6, threshold=12).split())
                if entry.ndim
                else entry
            )
            raise ValueError(
                f"{held} holds {found}{at}, outside {self!r}; expected {self.expected}; "
                "correct the values or declare another support."
            )

    def _first(
        self, bad: np.ndarray, name: str, rows: RowLabels | None
    ) -> tuple[tuple[int, ...], str, str]:
        """The first fault: its place, what holds it, and where that is, in words."""
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        if rows is None or not where:
            return where, name, f" at index {where}" if where else ""
        held = rows.entry(name, where, self.shape_axes)
        return where, held, f" at {rows.row(where[0], int(bad.sum()))}"

    def start(self, scalar: float, shape: tuple[int, ...]) -> np.ndarray:
        """The value that a scalar default stands for."""
        return np.full(shape, scalar)

    def inward(self, value: np.ndarray) -> np.ndarray:
        """Move a value on the boundary just inside, where the bijection is finite; the value is an
        array of NumPy, or one that JAX traces.
        """
        return value

    def random_free(self, key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
        """A start for sampling: uniform on (-2, 2) in unconstrained coordinates, as in Stan."""
        return jax.random.uniform(key, self.free_shape(shape), dtype, -2.0, 2.0)

    # -- fitting -----------------------------------------------------------------------------------
    def boundary_distance(self, value: jax.Array) -> jax.Array | None:
        """Distance of each entry to the nearest bound, or None where there is none (generalized
        score matching).
        """
        return None

    def noise_statistics(self, value: jax.Array) -> jax.Array:
        """The statistics whose data means are the parameters of the default noise (flat; empty:
        nothing is fitted).
        """
        return jnp.zeros((0,))

    def noise(self, statistics: jax.Array, shape: tuple[int, ...]) -> Any:
        """The default noise, a NumPyro distribution over one value: positive at the bounds, no
        lighter in the tails.
        """
        raise ValueError(
            f"There is no default noise on {self!r}; expected a NumPyro distribution; pass noise=."
        )

    # -- tables ------------------------------------------------------------------------------------
    def entries(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Indices of the entries that a table lists: each free entry once."""
        return list(np.ndindex(shape))

    def entry_bounds(self, index: tuple[int, ...]) -> tuple[float, float]:
        """The bounds of one entry, which its interval respects."""
        return (-math.inf, math.inf)


class PyTreeSupport(Support):
    """Any pytree, such as an Equinox network: x = its inexact arrays, which are trained.

    The rest is static. For parameters.

    Example:
        >>> import numpy as np
        >>> import unnorm as un
        >>> @un.density
        ... def energy(x: un.Real[2], *, net: un.PyTree = {"w": np.diag([1.0, 2.0])}):
        ...     return -0.5 * x @ net["w"] @ x
        >>> float(energy([1.0, 1.0]))
        -1.5
    """

    samplable = False

    def entries(self, shape) -> list[tuple[int, ...]]:
        return []


Constant, Covariate, PyTree = ConstantAnnotation(), CovariateAnnotation(), PyTreeSupport()


def has_network(supports: Mapping[str, Support]) -> bool:
    """Whether a parameter of these supports is a PyTree, such as a network."""
    return any(isinstance(support, PyTreeSupport) for support in supports.values())
