"""The contract of a kernel, and the target that it is given."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm

from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.sampling.random_normals import normals_like
from unnorm.supports import Support

KERNELS: dict[str, type] = {}  # by registry name; `unnorm.sampling.kernels` fills it
_LANES = 8  # floats that a core adds at once


@method
class Target:
    """A density as a kernel sees it: continuous variables in unconstrained coordinates, discrete
    ones as they are.

    A position is a dict of arrays by variable name. `log_density` includes log |det J| of the
    bijections.
    """

    density: Density
    held: dict[str, Any] | None = None  # variables that stand still, by position
    power: Any = None  # β of a tempered target p^β b^(1 − β)
    base: Density | None = None  # b; None: flat
    jacobian: bool = static(True)

    def without_jacobian(self) -> "Target":
        """The target whose log-density leaves out log |det J|: the user's function alone."""
        return dataclasses.replace(self, jacobian=False)

    def holding(self, position: dict[str, jax.Array]) -> "Target":
        """The target of the other variables, given the values of these."""
        return dataclasses.replace(self, held=(self.held or {}) | position)

    def tempered(self, power: jax.Array, base: Density | None = None) -> "Target":
        """The target p^β b^(1 − β), over the same coordinates."""
        return dataclasses.replace(self, power=power, base=base)

    @property
    def supports(self) -> dict[str, Support]:
        """Of the variables that move."""
        held = self.held or {}
        return {
            name: support for name, support in self.density.variables.items() if name not in held
        }

    @property
    def factors(self) -> tuple[Density, ...]:
        return getattr(self.density, "factors", (self.density,))

    @property
    def powers(self) -> tuple[Any, ...]:
        return getattr(self.density, "powers", (1.0,))

    @property
    def data(self) -> dict[str, Any]:
        return self.density.constants

    def log_density(self, position: dict[str, jax.Array]) -> jax.Array:
        """log p̃ of the constrained event plus log |det J|."""
        position = position if self.held is None else self.held | position
        event = self.constrain(position)
        value = self._masked(self.density, event)
        if self.power is not None:
            value = self.power * value
            if self.base is not None:
                value = value + (1 - self.power) * self._masked(self.base, event)
        if not self.jacobian:
            return value
        supports = self.density.variables
        return value + sum(supports[name].log_det(free) for name, free in position.items())

    def within_range(self, position: dict[str, jax.Array]) -> jax.Array:
        """`log_density`, minus infinity where coordinates are too large for their squares to be
        numbers.

        A trajectory that explodes ends there, and an overflow of the density would read as +inf and
        absorb the chain.
        """
        limit = float(jnp.finfo(jnp.result_type(*position.values())).max) ** 0.4
        far = jnp.stack([jnp.any(jnp.abs(leaf) > limit) for leaf in position.values()]).any()
        return jnp.where(far, -jnp.inf, self.log_density(position))

    @staticmethod
    def _masked(density: Density, event: dict[str, jax.Array]) -> jax.Array:
        """log p̃; minus infinity where an unbounded discrete variable has left its support (a count
        below 0).
        """
        open_ended = {n: s for n, s in density.variables.items() if s.discrete and s.states is None}
        if not open_ended:
            return density.log_density(event)
        inside = jnp.stack(
            [support.contains(event[name]) for name, support in open_ended.items()]
        ).all()
        safe = {name: jnp.where(inside, event[name], 0) for name in open_ended}
        return jnp.where(inside, density.log_density(event | safe), -jnp.inf)

    def constrain(self, position: dict[str, jax.Array]) -> dict[str, jax.Array]:
        supports = self.density.variables
        return {name: supports[name].constrain(free) for name, free in position.items()}

    def canonical(self, position: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The one among equivalent positions that chains keep: angles wrap."""
        return {
            name: self.density.variables[name].canonical(free) for name, free in position.items()
        }

    def unconstrain(self, event: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: support.unconstrain(event[name]) for name, support in self.supports.items()}

    def random_position(self, key: jax.Array, dtype) -> dict[str, jax.Array]:
        """A start for a chain, drawn inside the support."""
        shapes, keys = self.density.shapes(), jax.random.split(key, len(self.supports))
        return {
            name: support.random_free(one, shapes[name], dtype)
            for one, (name, support) in zip(keys, self.supports.items(), strict=True)
        }


class Kernel(Protocol):
    """The contract: how to add a kernel.

    Write a class of options with the decorator `@method` (numbers are traced; `static(...)` marks
    structure), give it `build`, and put it into `KERNELS`. With `noise`, `step` takes the noise in
    the place of the key, so that the driver may draw it for many steps at once.
    """

    needs_gradient: ClassVar[bool]
    exact: ClassVar[
        bool
    ]  # leaves the density invariant; if not, `bias` says in a sentence what its draws follow
    adapts: ClassVar[Any]  # a name of `adaptation.STRATEGIES`, a strategy of its own, or None
    noise: (
        Callable[[jax.Array, Any], Any] | None
    )  # and, where it is cheaper, block_noise(key, position, steps)

    def prepared(self, target: Target) -> "Kernel":
        """Return the kernel with what it found out about the target, before anything is compiled;
        or refuse it.
        """

    def build(self, target: Target, tuning: dict[str, jax.Array]) -> SamplingAlgorithm:
        """Return init(position, key) and step(key or noise, state); the state has `.position` and
        `.logdensity`.
        """

    def stats(self, info: Any) -> dict[str, jax.Array]:
        """Return what to keep of a step: ArviZ's names, one scalar each."""

    def serves(self, support: Support) -> bool:
        """Return whether a variable of this support can be moved."""

    def initial_tuning(self, size: int) -> dict[str, Any]:
        """Return the tuning that warm-up starts from, for a position of so many numbers."""

    def target_acceptance(self, size: int) -> float:
        """Return the acceptance rate that warm-up aims at."""


class Options:
    """What most kernels share: continuous variables, nothing adapted."""

    needs_gradient: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    adapts: ClassVar[Any] = None
    composed: ClassVar[bool] = (
        False  # of other kernels or laws, and named last where one is looked for
    )
    dense: ClassVar[bool] = False  # whether the metric that is learned is a full matrix
    metric: ClassVar[str] = "inverse_mass_matrix"  # the option that holds it
    noise: ClassVar[Callable | None] = None

    def prepared(self, target: Target) -> Any:
        return self

    def serves(self, support: Support) -> bool:
        return not support.discrete

    def initial_tuning(self, size: int) -> dict[str, Any]:
        return {}

    def target_acceptance(self, size: int) -> float:
        return 0.8

    def stats(self, info: Any) -> dict[str, jax.Array]:
        return info._asdict()


class Proposed(NamedTuple):
    """What a Metropolis step tells: the proposal's log-density is watched, a state's own is nearly
    always finite.
    """

    acceptance_rate: jax.Array
    is_accepted: jax.Array
    nan_proposal: jax.Array
    inf_proposal: jax.Array


def metropolis(log_ratio: jax.Array, log_uniform: jax.Array, proposed: jax.Array) -> Proposed:
    """Accept or reject by log ratio; a NaN ratio is a rejection that is counted, never a silent
    one.
    """
    acceptance = jnp.nan_to_num(jnp.exp(jnp.minimum(log_ratio, 0.0)), nan=0.0)
    return Proposed(
        acceptance, log_uniform < log_ratio, jnp.isnan(proposed), jnp.isposinf(proposed)
    )


def noise_of(kernel: Any, key: jax.Array, position: Any, steps: int) -> Any:
    """The noise of some steps of one chain, (steps, ...); keys, for a kernel that draws its own."""
    if kernel.noise is not None and hasattr(kernel, "block_noise"):
        return kernel.block_noise(key, position, steps)
    keys = jax.random.split(key, steps)
    return keys if kernel.noise is None else jax.vmap(lambda k: kernel.noise(k, position))(keys)


def total(values: jax.Array) -> jax.Array:
    """The sum, in eight lanes: XLA keeps the order of a float sum, and one lane waits for every
    addition.
    """
    flat = values.reshape(-1)
    whole = len(flat) - len(flat) % _LANES
    return flat[:whole].reshape(-1, _LANES).sum(0).sum() + flat[whole:].sum()


def tree_where(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


class WalkNoise:
    """Normals to walk by and a log-uniform number to accept by: the noise of a Metropolis step."""

    def noise(
        self, key: jax.Array, position: Any, leading: tuple[int, ...] = ()
    ) -> tuple[Any, jax.Array]:
        walk, accept = jax.random.split(key)
        dtype = jnp.result_type(*jax.tree.leaves(position))
        return normals_like(walk, position, leading), -jax.random.exponential(
            accept, leading, dtype
        )

    def block_noise(self, key: jax.Array, position: Any, steps: int) -> tuple[Any, jax.Array]:
        """The noise of many steps, drawn at once: cheaper than a key for each."""
        return self.noise(key, position, (steps,))


__all__ = [
    "KERNELS",
    "Kernel",
    "Options",
    "Proposed",
    "SamplingAlgorithm",
    "Target",
    "WalkNoise",
    "metropolis",
    "noise_of",
    "normals_like",
    "static",
    "total",
    "tree_where",
]
