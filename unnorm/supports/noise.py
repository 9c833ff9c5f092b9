"""Default noises that NumPyro lacks in the form that is needed: sample(key, sample_shape) and
log_prob(value).
"""

from typing import Any

import jax
import jax.numpy as jnp


class TwoPoint:
    """Independent entries of two given values; NumPyro's Bernoulli knows only 0 and 1."""

    def __init__(self, upper_probability: jax.Array, states: tuple[float, float]) -> None:
        self.upper_probability, self.states = upper_probability, states

    def sample(self, key, sample_shape=()) -> jax.Array:
        upper = jax.random.bernoulli(
            key, self.upper_probability, sample_shape + self.upper_probability.shape
        )
        return jnp.where(upper, self.states[1], self.states[0]).astype(self.upper_probability.dtype)

    def log_prob(self, value) -> jax.Array:
        upper, rank = self.upper_probability, self.upper_probability.ndim
        terms = jnp.where(value == self.states[1], jnp.log(upper), jnp.log1p(-upper))
        return terms.sum(tuple(range(-rank, 0)))


class Flat:
    """A uniform distribution whose density is known; NumPyro's Dirichlet(1) is NaN where an entry
    is 0.
    """

    def __init__(self, sampler, log_volume: float, rank: int) -> None:
        self.sampler, self.log_volume, self.rank = sampler, log_volume, rank

    def sample(self, key, sample_shape=()) -> jax.Array:
        return self.sampler.sample(key, sample_shape)

    def log_prob(self, value) -> jax.Array:
        return jnp.full(value.shape[: value.ndim - self.rank], -self.log_volume, value.dtype)


class WithEventShape:
    """A distribution over a vector, seen as one over values of another shape."""

    def __init__(self, vector, shape: tuple[int, ...]) -> None:
        self.vector, self.shape = vector, shape

    def sample(self, key, sample_shape=()) -> jax.Array:
        return self.vector.sample(key, sample_shape).reshape(sample_shape + self.shape)

    def log_prob(self, value) -> jax.Array:
        return self.vector.log_prob(
            value.reshape(value.shape[: value.ndim - len(self.shape)] + (-1,))
        )


class Independent:
    """Independent entries of one NumPyro law, drawn as floats as a chain's positions are."""

    def __init__(self, law, rank: int, dtype) -> None:
        self.law, self.rank, self.dtype = law, rank, dtype

    def sample(self, key, sample_shape=()) -> jax.Array:
        return self.law.sample(key, sample_shape).astype(self.dtype)

    def log_prob(self, value) -> jax.Array:
        return self.law.log_prob(jnp.asarray(value, int)).sum(tuple(range(-self.rank, 0)))


class Increasing:
    """Increasing vectors by the law of their first entry and of the gaps; the map from these has
    Jacobian 1.
    """

    def __init__(self, first, gaps, rank: int) -> None:
        self.first, self.gaps, self.rank = first, gaps, rank

    def sample(self, key, sample_shape=()) -> jax.Array:
        first_key, gaps_key = jax.random.split(key)
        first = self.first.sample(first_key, sample_shape)[..., None]
        return jnp.cumsum(
            jnp.concatenate([first, self.gaps.sample(gaps_key, sample_shape)], -1), -1
        )

    def log_prob(self, value) -> jax.Array:
        first = self.first.log_prob(value[..., 0])
        entries = first + self.gaps.log_prob(jnp.diff(value, axis=-1)).sum(-1)
        return entries.sum(tuple(range(-(self.rank - 1), 0)))


class FreeEntries:
    """A distribution over the free entries of a matrix, seen as one over the matrix."""

    def __init__(self, entries, support) -> None:
        self.entries, self.support = entries, support

    def sample(self, key, sample_shape=()) -> jax.Array:
        return self.support.constrain(self.entries.sample(key, sample_shape))

    def log_prob(self, value) -> jax.Array:
        return self.entries.log_prob(self.support.unconstrain(value))


def has_valid_parameters(distribution: Any) -> jax.Array:
    """Whether NumPyro accepts the parameters of a distribution and of those that it holds;
    traceable, where NumPyro's own check is not.
    """
    from numpyro.distributions import Distribution, constraints

    if not isinstance(distribution, Distribution):
        held = list(vars(distribution).values()) if hasattr(distribution, "__dict__") else []
        inner = [one for one in held if hasattr(one, "log_prob")]
        return jnp.stack([jnp.asarray(True), *map(has_valid_parameters, inner)]).all()
    own = [jnp.asarray(True)]
    base: Any = getattr(distribution, "base_dist", None)
    for name, value in distribution.get_args().items():
        constraint = distribution.arg_constraints[name]
        if not constraints.is_dependent(constraint):
            own.append(jnp.all(constraint(value)))
    if base is not None:
        own.append(has_valid_parameters(base))
    return jnp.stack(own).all()
