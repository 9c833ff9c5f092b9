"""Random-walk Metropolis-Hastings."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from unnorm.core.method import method, option, static
from unnorm.sampling.base import Options, SamplingAlgorithm, WalkNoise, metropolis, tree_where
from unnorm.sampling.diagonal_metric import diagonal_window, with_diagonal


class RandomWalkState(NamedTuple):
    """The state of a chain."""

    position: dict
    logdensity: jax.Array


@method
class RandomWalkMH(WalkNoise, Options):  # type: ignore[misc]
    """Random-walk Metropolis-Hastings: propose y = x + step_size · L z, z ~ N(0, I), accept with
    min(1, p̃(y)/p̃(x)).

    On a Sphere the move follows a geodesic (with a covariance it is in the coordinates), on a
    Circle it wraps, and a Count takes whole steps of at least one.

    Args:
        step_size: the proposal's standard deviation in unconstrained coordinates; None: adapted
            during warm-up, to an acceptance rate of .44 in one dimension, .35 in two, .234 above.
        covariance: L Lᵀ, a vector (diagonal) or a matrix over the unconstrained coordinates; None:
            the variances of the warm-up draws where the step size is adapted, too, else the
            identity.
        learn_covariance: learn the whole matrix L Lᵀ from the warm-up draws of all chains.

    Example:
        >>> import unnorm as un
        >>> un.kernels.RandomWalkMH(step_size=0.5)
        RandomWalkMH(step_size=0.5, covariance=None, learn_covariance=False)

    References:
        Metropolis et al. (1953), doi:10.1063/1.1699114; Gelman, Roberts and Gilks (1996), Efficient
        Metropolis jumping rules, Bayesian Statistics 5; Haario, Saksman and Tamminen (2001),
        doi:10.2307/3318737 (learned covariance).
    """

    step_size: float | None = option(default=None, above=0)
    covariance: Any = option(default=None, array=True)
    learn_covariance: bool = static(default=False)
    metric_option = "covariance"

    @property
    def dense(self) -> Any:  # type: ignore[override]
        return self.learn_covariance

    @property
    def adapts(self) -> Any:
        return "window" if self.learn_covariance else diagonal_window(self)

    def serves(self, support) -> bool:
        return not support.discrete or support.states is None

    def initial_tuning(self, size) -> dict[str, Any]:
        tuning = with_diagonal(self, size, 2.38 / size**0.5)
        learns = self.learn_covariance and self.covariance is None
        return tuning | {"covariance": jnp.eye(size)} if learns else tuning

    def target_acceptance(self, size) -> Any:
        return {1: 0.44, 2: 0.35}.get(size, 0.234)

    def build(self, target, tuning) -> SamplingAlgorithm:
        geodesic = self.covariance is None and not self.learn_covariance
        displace = _displacement(tuning, target.supports if geodesic else {})

        def init(position, key=None):
            return RandomWalkState(position, target.log_density(position))

        def along(support):
            # a geodesic is as likely as its reverse only where all directions are alike
            return support.walk if support.bijective or geodesic else jnp.add

        def step(noise, state):
            walk, log_uniform = noise
            moves = displace(walk)
            proposal = init(
                {
                    name: along(target.supports[name])(x, moves[name])
                    for name, x in state.position.items()
                }
            )
            info = metropolis(
                proposal.logdensity - state.logdensity, log_uniform, proposal.logdensity
            )
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)


def _displacement(tuning: dict, isotropic: dict):
    """step_size · L z as a function of z; L is 1 for what moves along geodesics, among the
    `isotropic` supports.
    """
    scale, covariance = tuning["step_size"], tuning.get("covariance")
    if covariance is None:
        return lambda walk: jax.tree.map(lambda z: scale * z, walk)
    if jnp.ndim(covariance) < 2:
        return lambda walk: _scale_walk(walk, scale * jnp.sqrt(covariance), scale, isotropic)
    factor = jnp.linalg.cholesky(covariance)

    def displace(walk):
        flat, unravel = ravel_pytree(walk)
        return unravel(scale * (factor @ flat))

    return displace


def _scale_walk(walk: dict, scales: jax.Array, scale: jax.Array, isotropic: dict) -> dict:
    flat, unravel = ravel_pytree(walk)
    by_variable = unravel((scales * jnp.ones_like(flat)).astype(flat.dtype))
    alike = {name for name, support in isotropic.items() if not support.bijective}
    return {name: z * (scale if name in alike else by_variable[name]) for name, z in walk.items()}
