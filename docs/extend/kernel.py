"""A kernel: hit-and-run Metropolis-Hastings, a step along a direction drawn at random."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import unnorm as un
from unnorm.core.method import method, option
from unnorm.sampling.base import KERNELS, Options, SamplingAlgorithm, metropolis, tree_where


class State(NamedTuple):
    position: dict
    logdensity: jax.Array


@method
class HitAndRun(Options):
    """Propose y = x + r u with u uniform on the sphere and r ~ N(0, step_size²), and accept with
    min(1, p̃(y)/p̃(x)).

    Args:
        step_size: standard deviation of r, in unconstrained coordinates; must be positive.

    References:
        Bélisle, Romeijn and Smith (1993), doi:10.1287/moor.18.2.255.
    """

    step_size: float = option(default=2.5, above=0)

    def build(self, target, tuning):
        def init(position, key=None):
            return State(position, target.log_density(position))

        def step(key, state):
            along, length, accept = jax.random.split(key, 3)
            flat, unravel = jax.flatten_util.ravel_pytree(state.position)
            direction = jax.random.normal(along, flat.shape, flat.dtype)
            direction = direction / jnp.linalg.norm(direction)
            distance = self.step_size * jax.random.normal(length, dtype=flat.dtype)
            proposal = init(unravel(flat + distance * direction))
            log_uniform = -jax.random.exponential(accept, dtype=flat.dtype)
            log_ratio = proposal.logdensity - state.logdensity
            info = metropolis(log_ratio, log_uniform, proposal.logdensity)
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)


KERNELS["hit_and_run"] = HitAndRun


if __name__ == "__main__":
    normal = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[2]})
    draws = un.sample(normal, "hit_and_run", draws=5000, chains=8, seed=0, progress=False)
    print(un.diagnose(draws, normal))
