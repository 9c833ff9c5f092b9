"""The contract of a proposal: a normalized distribution q that can be sampled and evaluated."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from unnorm.core.method import method, static
from unnorm.core.random_keys import fold_in, key_array, split_keys
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.interactions.couplings import Couplings
from unnorm.supports import Support


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
        *keys, discrete_key = split_keys(key, 4)
        discrete = self.discrete.draw(self.view, discrete_key)
        if self.continuous is None:
            return discrete
        return self.continuous.draw(self.view, keys) | discrete

    def sample(self, key: jax.Array, n: int) -> Position:
        """Independent positions, arrays (n, ...) by variable."""
        return jax.vmap(self.draw)(key_array(key, n))

    def log_prob(self, position: Position) -> jax.Array:
        """The normalized log-density at a position, with the Jacobian."""
        discrete = self.view.discrete(position)
        value = jnp.zeros((), self.dtype) + self.discrete.log_prob(self.view, discrete)
        if self.continuous is None:
            return value
        return value + self.continuous.log_prob(self.view, position)


# -- independent discrete variables -------------------------------------------------------
@method
class IndependentStates:
    """Independent sites with a few states, and independent counts.

    Attributes:
        logits: log-probabilities (*free shape, states) of the finite variables.
        counts: mean and size (2, *shape) of the negative binomials of the counts.
    """

    logits: dict[str, jax.Array]
    counts: dict[str, jax.Array]

    @property
    def kept_bonds(self) -> None:
        """No bond of the density."""
        return

    def other_bonds(self, seed: int) -> "IndependentStates":
        """The same: there is none to leave out."""
        return self

    def draw(self, view: Unconstrained, key: jax.Array) -> Position:
        position = {}
        for i, (name, logits) in enumerate(self.logits.items()):
            states = jnp.asarray(view.supports[name].states, logits.dtype)
            position[name] = states[jax.random.categorical(fold_in(key, i), logits)]
        for i, (name, (mean, size)) in enumerate(self.counts.items()):
            rate_key, count_key = split_keys(fold_in(key, 1000 + i))
            rates = jax.random.gamma(rate_key, size, dtype=mean.dtype) * mean / size
            position[name] = jax.random.poisson(count_key, rates).astype(mean.dtype)
        return position

    def log_prob(self, view: Unconstrained, position: Position) -> jax.Array:
        return sum(
            (self._log_prob(view, name, value) for name, value in position.items()), jnp.zeros(())
        )

    def _log_prob(self, view: Unconstrained, name: str, value: jax.Array) -> jax.Array:
        if name in self.counts:
            return log_negative_binomial(value, *self.counts[name])
        support, logits = view.supports[name], self.logits[name]
        if logits.shape[-1] == 2 and value.ndim < logits.ndim:
            # linear in the value, of which Gibbs sweeps by gradients make use
            low, high = support.states
            share = (value - low) / (high - low)
            return jnp.sum((1 - share) * logits[..., 0] + share * logits[..., 1])
        return jnp.sum(support.encode(value) * logits)


def log_negative_binomial(value: jax.Array, mean: jax.Array, size: jax.Array) -> jax.Array:
    """log of the negative binomial probabilities, summed; minus infinity below 0."""
    log_binomial = gammaln(value + size) - gammaln(size) - gammaln(value + 1)
    each = (
        log_binomial + size * jnp.log(size / (size + mean)) + value * jnp.log(mean / (size + mean))
    )
    return jnp.sum(jnp.where(value >= 0, each, -jnp.inf))


def fit_negative_binomials(draws: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Mean and size of counts (n, *shape), at least twice as dispersed as a Poisson and as they."""
    dtype, fitted = jnp.result_type(float), {}
    for name, values in draws.items():
        mean = np.maximum(np.mean(values, axis=0), 0.5)
        variance = np.maximum(2 * np.var(values, axis=0), 2 * mean)
        fitted[name] = jnp.asarray(np.stack([mean, mean**2 / (variance - mean)]), dtype)
    return fitted


def uniform_logits(
    supports: Mapping[str, Support], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, jax.Array]:
    """Log-probabilities of the finite variables, all states alike."""
    dtype = jnp.result_type(float)
    return {
        name: jnp.full(
            (*support.free_shape(shapes[name]), len(support.states)),
            -math.log(len(support.states)),
            dtype,
        )
        for name, support in supports.items()
        if support.states is not None
    }


def count_names(supports: Mapping[str, Support]) -> tuple[str, ...]:
    """The discrete variables with infinitely many values."""
    return tuple(n for n, s in supports.items() if s.discrete and s.states is None)


__all__ = [
    "IndependentStates", "Proposal", "ProposalFactor", "count_names", "fit_negative_binomials",
    "log_negative_binomial", "uniform_logits",
]  # fmt: skip
