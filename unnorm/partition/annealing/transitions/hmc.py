"""Hamiltonian Monte Carlo that keeps the gradients of target and proposal apart."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from unnorm.core.method import method, static
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.tempered import Particle, PathDensity
from unnorm.partition.annealing.transitions.base import SamplingAlgorithm, Tuning, metropolis


@method
class HMC:
    """Leapfrog trajectories in coordinates whitened by the particles' covariance; reversible.

    The step size is jittered by ±50%, because a fixed length of trajectory may return to its start.
    BlackJAX's HMC would evaluate the gradient of each temperature at the start of a trajectory;
    here it follows from the two gradients that a particle carries.

    References:
        Duane, Kennedy, Pendleton and Roweth (1987), doi:10.1016/0370-2693(87)91197-X.
    """

    leapfrogs: int = static(default=4, at_least=1)
    discrete: ClassVar[bool] = False
    global_moves: ClassVar[bool] = False

    def build(self, tempered: PathDensity, tuning: Tuning) -> SamplingAlgorithm:
        view, evaluate = tempered.path.target, tempered.path.evaluate
        factor, dense = tuning.factor, tuning.factor.ndim == 2

        def gradient(particle):
            at = tempered.gradient(particle)
            return factor.T @ at if dense else factor * at

        def step(key: jax.Array, particle: Particle) -> tuple[Particle, jax.Array]:
            momentum_key, jitter, accept = jax.random.split(key, 3)
            start, discrete = view.flatten(particle.position), view.discrete(particle.position)
            size = jnp.exp(tuning.log_step) * jax.random.uniform(jitter, (), start.dtype, 0.5, 1.5)

            def leapfrog(carry, _):
                flat, momentum, there = carry
                momentum = momentum + 0.5 * size * gradient(there)
                flat = flat + size * (factor @ momentum if dense else factor * momentum)
                there = evaluate(view.split(flat) | discrete)
                momentum = momentum + 0.5 * size * gradient(there)
                return (flat, momentum, there), there.nonfinite

            momentum = jax.random.normal(momentum_key, start.shape, start.dtype)
            first = start, momentum, particle._replace(nonfinite=0 * particle.nonfinite)
            (_, last, there), nonfinite = jax.lax.scan(leapfrog, first, length=self.leapfrogs)
            kinetic = 0.5 * (last @ last - momentum @ momentum)
            gain = tempered.log_density(there) - tempered.log_density(particle) - kinetic
            gain = jnp.where(jnp.isnan(gain), -jnp.inf, gain)
            particle, _ = metropolis(accept, gain, there, particle, nonfinite.sum())
            return particle, jnp.minimum(jnp.exp(gain), 1.0)

        return SamplingAlgorithm(evaluate, step)

    def reverse(self) -> "HMC":
        return self

    def evaluations(self, view: Unconstrained) -> dict[str, int]:
        return {"values": 0, "gradients": self.leapfrogs}


__all__ = ["HMC"]
