"""Metropolis steps of counts, one at a time."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from unnorm.core.method import method, static
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.partition.annealing.tempered import Particle, PathDensity
from unnorm.partition.annealing.transitions.base import SamplingAlgorithm, Tuning, metropolis


@method
class CountWalk:
    """As many Metropolis steps as there are counts, each of a random one, up or down by up to twice
    its standard deviation.
    """

    names: tuple[str, ...] = static()
    discrete: ClassVar[bool] = True
    global_moves: ClassVar[bool] = False

    def build(self, tempered: PathDensity, tuning: Tuning) -> SamplingAlgorithm:
        evaluate = tempered.path.evaluate

        def sweep(key: jax.Array, particle: Particle) -> tuple[Particle, jax.Array]:
            sizes = {name: particle.position[name].size for name in self.names}
            total = sum(sizes.values())

            def step(particle, key):
                pick, length, sign, accept = jax.random.split(key, 4)
                site, start = jax.random.randint(pick, (), 0, total), 0
                position = dict(particle.position)
                for name, size in sizes.items():
                    reach = jnp.maximum(2 * tuning.count_scales[name].ravel(), 1.0)
                    stride = jnp.ceil(jax.random.uniform(length, (size,), reach.dtype) * reach)
                    stride = jnp.maximum(stride, 1.0) * jnp.where(jax.random.bernoulli(sign), 1, -1)
                    chosen = jnp.arange(size) == site - start
                    move = jnp.where(chosen, stride, 0.0).reshape(position[name].shape)
                    position[name] = position[name] + move
                    start += size
                there = evaluate(position)
                gain = tempered.log_density(there) - tempered.log_density(particle)
                gain = jnp.where(jnp.isfinite(there.log_target), gain, -jnp.inf)
                return metropolis(accept, gain, there, particle, there.nonfinite)

            particle, accepted = jax.lax.scan(step, particle, jax.random.split(key, total))
            return particle, accepted.mean()

        return SamplingAlgorithm(evaluate, sweep)

    def reverse(self) -> "CountWalk":
        return self

    def evaluations(self, view: Unconstrained) -> dict[str, int]:
        shapes = view.density.shapes()
        return {"values": sum(math.prod(shapes[n]) for n in self.names), "gradients": 0}


__all__ = ["CountWalk"]
