"""The contract of a kernel, and the target that it is given."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm

from unnorm.density import Density
from unnorm.methods import method, static
from unnorm.supports import Support


@method
class Target:
    """A density as a kernel sees it: continuous variables in unconstrained coordinates, discrete ones as they are.

    A position is a dict of arrays by variable name. `log_density` includes log |det J| of the bijections.
    """

    density: Density
    jacobian: bool = static(True)

    def without_jacobian(self) -> "Target":
        """The target whose log-density leaves out log |det J|: the user's function alone."""
        return Target(self.density, jacobian=False)

    @property
    def supports(self) -> dict[str, Support]:
        return self.density.variables

    @property
    def factors(self) -> tuple[Density, ...]:
        return getattr(self.density, "factors", (self.density,))

    @property
    def data(self) -> dict[str, Any]:
        return self.density.constants

    def log_density(self, position: dict[str, jax.Array]) -> jax.Array:
        """log p̃ of the constrained event plus log |det J|."""
        value = self.density.log_density(self.constrain(position))
        if not self.jacobian:
            return value
        return value + sum(support.log_det(position[name]) for name, support in self.supports.items())

    def constrain(self, position: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: support.constrain(position[name]) for name, support in self.supports.items()}

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

    Write a class of options with the decorator `@method` (numbers are traced; `static(...)` marks structure), give it
    `build`, and put it into `KERNELS`. With `noise`, `step` takes the noise in the place of the key, so that the driver
    may draw it for many steps at once.
    """

    needs_gradient: ClassVar[bool]
    exact: ClassVar[bool]  # leaves the density invariant; if not, `bias` says in a sentence what its draws follow
    adapts: ClassVar[str | None]  # "step_size" (pooled dual averaging), "window" (step size and mass matrix), or None
    noise: Callable[[jax.Array, Any], Any] | None

    def build(self, target: Target, tuning: dict[str, jax.Array]) -> SamplingAlgorithm:
        """Return init(position, key) and step(key or noise, state); the state has `.position` and `.logdensity`."""

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
    adapts: ClassVar[str | None] = None
    noise: ClassVar[Callable | None] = None

    def serves(self, support: Support) -> bool:
        return not support.discrete

    def initial_tuning(self, size: int) -> dict[str, Any]:
        return {}

    def target_acceptance(self, size: int) -> float:
        return 0.8

    def stats(self, info: Any) -> dict[str, jax.Array]:
        return info._asdict()


class Proposed(NamedTuple):
    """What a Metropolis step tells: the proposal's log-density is watched, a state's own is nearly always finite."""

    acceptance_rate: jax.Array
    is_accepted: jax.Array
    nan_proposal: jax.Array
    inf_proposal: jax.Array


def metropolis(log_ratio: jax.Array, log_uniform: jax.Array, proposed: jax.Array) -> Proposed:
    """Accept or reject by log ratio; a NaN ratio is a rejection that is counted, never a silent one."""
    acceptance = jnp.nan_to_num(jnp.exp(jnp.minimum(log_ratio, 0.0)), nan=0.0)
    return Proposed(acceptance, log_uniform < log_ratio, jnp.isnan(proposed), jnp.isposinf(proposed))


def tree_where(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def normals_like(key: jax.Array, tree: Any) -> Any:
    """Standard normal noise in the shape of a pytree."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        treedef, [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


__all__ = [
    "Kernel",
    "Options",
    "Proposed",
    "SamplingAlgorithm",
    "Target",
    "metropolis",
    "normals_like",
    "static",
    "tree_where",
]
