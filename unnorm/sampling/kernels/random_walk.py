"""Random-walk Metropolis-Hastings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unnorm.methods import method
from unnorm.sampling.base import Options, SamplingAlgorithm, metropolis, normals_like, tree_where


class RandomWalkState(NamedTuple):
    position: dict
    logdensity: jax.Array


@method
class RandomWalkMH(Options):
    """Random-walk Metropolis-Hastings: propose y = x + step_size · z, z ~ N(0, I), accept with min(1, p̃(y)/p̃(x)).

    Args:
        step_size: the proposal's standard deviation in unconstrained coordinates; None: adapted during warm-up by dual
            averaging pooled over chains, to an acceptance rate of .44 in one dimension, .35 in two, .234 above.

    Example:
        >>> import unnorm as un
        >>> un.kernels.RandomWalkMH(step_size=0.5)
        RandomWalkMH(step_size=0.5)

    References:
        Metropolis et al. (1953), doi:10.1063/1.1699114; Gelman, Roberts and Gilks (1996), Efficient Metropolis jumping
        rules, Bayesian Statistics 5.
    """

    step_size: float | None = None
    adapts = "step_size"

    def initial_tuning(self, size):
        return {"step_size": 2.38 / size**0.5 if self.step_size is None else self.step_size}

    def target_acceptance(self, size):
        return {1: 0.44, 2: 0.35}.get(size, 0.234)

    def noise(self, key, position):
        walk, accept = jax.random.split(key)
        dtype = jnp.result_type(*jax.tree.leaves(position))
        return normals_like(walk, position), jnp.log(jax.random.uniform(accept, dtype=dtype))

    def build(self, target, tuning):
        scale = tuning["step_size"]

        def init(position, key=None):
            return RandomWalkState(position, target.log_density(position))

        def step(noise, state):
            walk, log_uniform = noise
            position = jax.tree.map(lambda x, z: x + scale * z, state.position, walk)
            proposal = init(position)
            info = metropolis(proposal.logdensity - state.logdensity, log_uniform, proposal.logdensity)
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)
