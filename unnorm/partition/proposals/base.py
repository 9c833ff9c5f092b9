"""The contract of a proposal: a normalized distribution q that can be sampled and evaluated."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from unnorm.core.method import method, static
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.interactions.ising import Couplings


class ProposalFactor(Protocol):
    """A normalized distribution of the continuous, or of the discrete, variables: how to add one.

    Write a class with the decorator `unnorm.core.method.method` in a file of this folder. The view
    gives the supports and shapes of the variables. A continuous factor has `wider` and
    `without_tails` too.
    """

    def draw(self, view: Unconstrained, key: jax.Array) -> Position:
        """One position of its variables; a continuous factor is given three keys, (3,)."""

    def log_prob(self, view: Unconstrained, position: Position) -> jax.Array:
        """The normalized log-density at a position of its variables, with the Jacobian."""


@method
class Proposal:
    """q(continuous) q(discrete), over unconstrained coordinates: where annealing starts.

    Attributes:
        view: of the density that it is a proposal for.
        continuous: the factor of the continuous variables; None where there are none.
        discrete: the factor of the discrete variables.
        dtype: of positions.
        couplings: the Ising form of the density, if it has one, for Swendsen-Wang transitions.
        log_step: log of the step size of HMC, if it is known: a proposal close to the density
            leaves few stages to learn it.
    """

    view: Unconstrained
    continuous: Any
    discrete: Any
    dtype: Any = static()
    couplings: Couplings | None = None
    log_step: Any = None

    def draw(self, key: jax.Array) -> Position:
        """One position."""
        *keys, discrete_key = jax.random.split(key, 4)
        discrete = self.discrete.draw(self.view, discrete_key)
        if self.continuous is None:
            return discrete
        return self.continuous.draw(self.view, keys) | discrete

    def sample(self, key: jax.Array, n: int) -> Position:
        """Independent positions, arrays (n, ...) by variable."""
        return jax.vmap(self.draw)(jax.random.split(key, n))

    def log_prob(self, position: Position) -> jax.Array:
        """The normalized log-density at a position, with the Jacobian."""
        discrete = self.view.discrete(position)
        value = jnp.zeros((), self.dtype) + self.discrete.log_prob(self.view, discrete)
        if self.continuous is None:
            return value
        return value + self.continuous.log_prob(self.view, position)


__all__ = ["Proposal", "ProposalFactor"]
