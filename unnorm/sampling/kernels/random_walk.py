"""Random-walk Metropolis-Hastings."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.methods import method, option, static
from unnorm.sampling.base import Options, SamplingAlgorithm, WalkNoise, metropolis, tree_where


class RandomWalkState(NamedTuple):
    position: dict
    logdensity: jax.Array


@method
class RandomWalkMH(WalkNoise, Options):
    """Random-walk Metropolis-Hastings: propose y = x + step_size · L z, z ~ N(0, I), accept with min(1, p̃(y)/p̃(x)).

    On a Sphere the move follows a geodesic (with a covariance it is in the coordinates), on a Circle it wraps, and a
    Count takes whole steps of at least one.

    Args:
        step_size: the proposal's standard deviation in unconstrained coordinates; None: adapted during warm-up by dual
            averaging pooled over chains, to an acceptance rate of .44 in one dimension, .35 in two, .234 above.
        covariance: L Lᵀ, a vector (diagonal) or a matrix over the unconstrained coordinates; None: the identity, or
            learned.
        learn_covariance: learn L Lᵀ from the warm-up draws of all chains.

    Example:
        >>> import unnorm as un
        >>> un.kernels.RandomWalkMH(step_size=0.5)
        RandomWalkMH(step_size=0.5, covariance=None, learn_covariance=False)

    References:
        Metropolis et al. (1953), doi:10.1063/1.1699114; Gelman, Roberts and Gilks (1996), Efficient Metropolis jumping
        rules, Bayesian Statistics 5; Haario, Saksman and Tamminen (2001), doi:10.2307/3318737 (learned covariance).
    """

    step_size: float | None = option(None, above=0)
    covariance: Any = option(None, array=True)
    learn_covariance: bool = static(False)
    metric = "covariance"
    dense = True

    @property
    def adapts(self):
        return "window" if self.learn_covariance else "step_size"

    def serves(self, support):
        return not support.discrete or support.states is None

    def initial_tuning(self, size):
        tuning = {"step_size": 2.38 / size**0.5 if self.step_size is None else self.step_size}
        if self.covariance is not None:
            return tuning | {"covariance": self.covariance}
        return tuning | {"covariance": jnp.eye(size)} if self.learn_covariance else tuning

    def target_acceptance(self, size):
        return {1: 0.44, 2: 0.35}.get(size, 0.234)

    def build(self, target, tuning):
        displaced = _displacement(tuning)

        def init(position, key=None):
            return RandomWalkState(position, target.log_density(position))

        def along(support):
            # a geodesic is as likely as its reverse only where all directions are alike
            return support.walk if support.bijective or "covariance" not in tuning else jnp.add

        def step(noise, state):
            walk, log_uniform = noise
            moves = displaced(walk)
            proposal = init({name: along(target.supports[name])(x, moves[name]) for name, x in state.position.items()})
            info = metropolis(proposal.logdensity - state.logdensity, log_uniform, proposal.logdensity)
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)


def _displacement(tuning: dict):
    """step_size · L z as a function of z."""
    scale, covariance = tuning["step_size"], tuning.get("covariance")
    if covariance is None:
        return lambda walk: jax.tree.map(lambda z: scale * z, walk)
    factor = jnp.linalg.cholesky(covariance) if jnp.ndim(covariance) == 2 else jnp.sqrt(covariance)

    def displaced(walk):
        flat, unravel = ravel_pytree(walk)
        return unravel(scale * (factor @ flat if factor.ndim == 2 else factor * flat))

    return displaced
