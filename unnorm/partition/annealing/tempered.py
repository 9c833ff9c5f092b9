"""The annealing path q^(1−λ) p̃^λ from a proposal q to a density p̃, and its particles."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.method import method
from unnorm.declaration.unconstrained import Position, Unconstrained
from unnorm.integration.nodes import is_resolved
from unnorm.partition.proposals.base import Proposal


def keep_finite(log_value: jax.Array, log_zero: float = -1e30) -> jax.Array:
    """`log_value`, with a finite number in the place of minus infinity, whose product with an
    inverse temperature of 0 would be NaN.
    """
    return jnp.maximum(log_value, log_zero)


class Particle(NamedTuple):
    """A position with its log-densities and their gradients in the continuous coordinates.

    The gradients of target and proposal are separate, so that one evaluation serves all
    temperatures.
    """

    position: Position
    log_target: jax.Array
    log_proposal: jax.Array
    target_gradient: jax.Array  # (D,)
    proposal_gradient: jax.Array
    nonfinite: jax.Array  # how many evaluations of log p̃ were NaN or +infinity

    @property
    def log_ratio(self) -> jax.Array:
        """log p̃ − log q, with the Jacobian; finite."""
        return keep_finite(self.log_target - self.log_proposal)


@method
class AnnealingPath:
    """q^(1−λ) p̃^λ for λ from 0 to 1.

    Attributes:
        target: p̃ on unconstrained coordinates.
        proposal: q.
    """

    target: Unconstrained
    proposal: Proposal

    def at(self, inverse_temperature: jax.Array | float) -> "PathDensity":
        """The density of one λ."""
        return PathDensity(self, inverse_temperature)

    def with_target(self, target: Unconstrained) -> "AnnealingPath":
        """The path from the same proposal to another density of the same variables."""
        return AnnealingPath(target, self.proposal)

    def evaluate(self, position: Position) -> Particle:
        """The particle at a position; log p̃ that is NaN or +infinity is minus infinity there, and
        counted.
        """
        discrete, flat = self.target.discrete(position), self.target.flatten(position)

        def both(flat):
            here = self.target.split(flat) | discrete
            return jnp.stack([self.target.within_range(here), self.proposal.log_prob(here)])

        if flat.size:
            values, pullback = jax.vjp(both, flat)
            gradient, proposal_gradient = jax.vmap(lambda row: pullback(row)[0])(
                jnp.eye(2, dtype=values.dtype)
            )
        else:
            values = jnp.stack(
                [self.target.log_density(position), self.proposal.log_prob(position)]
            )
            gradient = proposal_gradient = jnp.zeros(0, values.dtype)
        lost = jnp.isnan(values[0]) | jnp.isposinf(values[0])
        log_target = jnp.where(lost, -jnp.inf, values[0])
        nonfinite = (lost & far_from_overflow(self.target, position)).astype(int)
        return Particle(
            position, log_target, values[1], jnp.nan_to_num(gradient), proposal_gradient, nonfinite
        )


class PathDensity(NamedTuple):
    """The density q^(1−λ) p̃^λ at one inverse temperature λ."""

    path: AnnealingPath
    inverse_temperature: jax.Array | float

    def log_density(self, particle: Particle) -> jax.Array:
        """log q + λ (log p̃ − log q)."""
        return particle.log_proposal + self.inverse_temperature * particle.log_ratio

    def gradient(self, particle: Particle) -> jax.Array:
        """Of `log_density` in the continuous coordinates, (D,)."""
        rise = particle.target_gradient - particle.proposal_gradient
        return particle.proposal_gradient + self.inverse_temperature * rise


def log_target(view: Unconstrained, position: Position) -> jax.Array:
    """log p̃ with the Jacobian; minus infinity where numbers overflow, NaN where the function gives
    it.
    """
    value = view.log_density(position)
    lost = jnp.isnan(value) | jnp.isposinf(value)
    return jnp.where(lost & ~far_from_overflow(view, position), -jnp.inf, value)


def far_from_overflow(view: Unconstrained, position: Position) -> jax.Array:
    """Whether coordinates and values are far from overflowing or rounding onto a bound: a NaN there
    is the function's.
    """
    if not view.dimension:
        return jnp.asarray(True)
    flat = view.flatten(position)
    values, _ = view.event_at(flat)
    limit = float(jnp.finfo(flat.dtype).max) ** 0.25
    small = jnp.stack([jnp.all(jnp.abs(leaf) < limit) for leaf in [flat, *values.values()]]).all()
    return small & is_resolved(view, flat, values)


__all__ = ["AnnealingPath", "Particle", "PathDensity", "keep_finite", "log_target"]
