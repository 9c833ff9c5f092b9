"""The contract of a transition, and several of them as one."""

from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm

from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.tempered import AnnealingPath, Particle, PathDensity
from unnorm.partition.base import total_evaluations


class Tuning(NamedTuple):
    """The scales of transitions at one temperature, learned from particles."""

    log_step: jax.Array  # of HMC
    factor: jax.Array  # (D, D), lower triangular, or (D,): square root of the covariance
    count_scales: dict[str, jax.Array]  # the standard deviation of every count
    bin_edges: jax.Array  # (D, bins + 1): bins of equal probability, by coordinate


class Transition(Protocol):
    """The contract of a transition: how to add one.

    Write a class with the decorator `unnorm.core.method.method` in a file of this folder, and put
    it into the tuple of `transitions_for`. As in BlackJAX, `build` gives ``init`` and ``step``.
    """

    discrete: ClassVar[bool]  # whether it moves discrete variables
    global_moves: ClassVar[bool]  # whether it decorrelates particles in a few steps

    def build(self, tempered: PathDensity, tuning: Tuning) -> SamplingAlgorithm:
        """``init(position)`` gives a `Particle`; ``step(key, particle)`` the next one and the
        acceptance rate. A step leaves `tempered` invariant.
        """

    def reverse(self) -> "Transition":
        """The time reversal; the transition itself where it is reversible."""

    def evaluations(self, view: Unconstrained) -> dict[str, int]:
        """Of one step: ``{"values": n, "gradients": n}``."""


Transitions = tuple[Any, ...]  # of `Transition`, in the order in which they are made


def metropolis(
    key: jax.Array, log_ratio: jax.Array, there: Particle, here: Particle, nonfinite: jax.Array
) -> tuple[Particle, jax.Array]:
    """`there` with probability min(1, exp(log ratio)), and whether it was taken (a NaN is not)."""
    take = -jax.random.exponential(key, (), here.log_target.dtype) < log_ratio
    chosen = jax.tree.map(lambda new, old: jnp.where(take, new, old), there, here)
    return chosen._replace(nonfinite=here.nonfinite + nonfinite), take


def step_all(
    transitions: Transitions,
    tempered: PathDensity,
    tuning: Tuning,
    key: jax.Array,
    particle: Particle,
) -> tuple[Particle, jax.Array]:
    """One step of each transition in turn, and the acceptance rate of the first."""
    rates = []
    for transition, one in zip(transitions, jax.random.split(key, len(transitions)), strict=True):
        particle, rate = transition.build(tempered, tuning).step(one, particle)
        rates.append(rate)
    return particle, rates[0]


def step_particles(
    transitions: Transitions,
    tempered: PathDensity,
    tuning: Tuning,
    key: jax.Array,
    particles: Particle,
) -> tuple[Particle, jax.Array]:
    """`step_all` for each of several particles, and their acceptance rates."""
    keys = jax.random.split(key, len(particles.log_target))
    return jax.vmap(lambda one, key: step_all(transitions, tempered, tuning, key, one))(
        particles, keys
    )


def reverse_all(transitions: Transitions) -> Transitions:
    """The time reversal of `step_all`."""
    return tuple(transition.reverse() for transition in transitions[::-1])


def evaluations_of(transitions: Transitions, path: AnnealingPath, steps: int) -> dict[str, int]:
    """Evaluations of so many steps of one particle.

    After moves of the discrete variables the gradients are evaluated again.
    """
    spent = total_evaluations(*(one.evaluations(path.target) for one in transitions))
    spent["gradients"] += bool(path.target.dimension and any(one.discrete for one in transitions))
    return {kind: steps * number for kind, number in spent.items()}


__all__ = [
    "SamplingAlgorithm", "Transition", "Transitions", "Tuning", "evaluations_of", "metropolis",
    "reverse_all",
    "step_all", "step_particles",
]  # fmt: skip
