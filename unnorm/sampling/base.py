"""The contract of a kernel, and the target that it is given."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm

from unnorm.core.method import static
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.sampling.random_normals import normals_like
from unnorm.supports import Support

KERNELS: dict[str, Any] = {}  # by registry name; `unnorm.sampling.kernels` fills it


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

    def prepare(self, target: Unconstrained) -> "Kernel":
        """Return the kernel with what it found out about the target, before anything is compiled;
        or refuse it.
        """

    def build(self, target: Unconstrained, tuning: dict[str, jax.Array]) -> SamplingAlgorithm:
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
    composed: ClassVar[bool] = False  # of other kernels or distributions: suggested last
    ensemble: ClassVar[bool] = False  # tuned by where many chains are at one step
    dense: ClassVar[bool] = False  # whether the metric that is learned is a full matrix
    metric_option: ClassVar[str] = "inverse_mass_matrix"  # the option that holds it
    noise: ClassVar[Callable | None] = None
    without_warmup: ClassVar[str] = ""  # what a run without warm-up lacks, where it must have one

    def prepare(self, target: Unconstrained) -> Any:
        return self

    def serves(self, support: Support) -> bool:
        return not support.discrete

    def initial_tuning(self, size: int) -> dict[str, Any]:
        return {}

    def target_acceptance(self, size: int) -> float:
        return 0.8

    def stats(self, info: Any) -> dict[str, jax.Array]:
        return info._asdict()


class ProposalInfo(NamedTuple):
    """What a Metropolis step tells: the proposal's log-density is watched, a state's own is nearly
    always finite.
    """

    acceptance_rate: jax.Array
    is_accepted: jax.Array
    nan_proposal: jax.Array
    inf_proposal: jax.Array


def metropolis(log_ratio: jax.Array, log_uniform: jax.Array, proposed: jax.Array) -> ProposalInfo:
    """Accept or reject by log ratio; a NaN ratio is a rejection that is counted, never a silent
    one.
    """
    acceptance = jnp.nan_to_num(jnp.exp(jnp.minimum(log_ratio, 0.0)), nan=0.0)
    return ProposalInfo(
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
    lanes = 8  # floats that a core adds at once
    whole = len(flat) - len(flat) % lanes
    return flat[:whole].reshape(-1, lanes).sum(0).sum() + flat[whole:].sum()


def tree_where(condition: jax.Array, yes: Any, no: Any) -> Any:
    """`jnp.where` of one condition over all leaves of two pytrees."""
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
    "ProposalInfo",
    "SamplingAlgorithm",
    "WalkNoise",
    "metropolis",
    "noise_of",
    "normals_like",
    "static",
    "total",
    "tree_where",
]
