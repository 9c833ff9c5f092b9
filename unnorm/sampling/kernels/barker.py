"""The Barker proposal."""

from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.method import method, option
from unnorm.sampling.base import (
    Options,
    SamplingAlgorithm,
    WalkNoise,
    metropolis,
    normals_like,
    total,
    tree_where,
)
from unnorm.sampling.diagonal_metric import diagonal_window, refuse_matrix, steps_of, with_diagonal
from unnorm.sampling.kernels.langevin import initialise


@method
class Barker(WalkNoise, Options):
    """Barker's proposal: y = x ± z, z ~ N(0, step_size² M), each sign + with probability σ(z ∂log
    p(x)), then M-H.

    Its acceptance degrades slowly where the step size is wrong or scales differ, unlike MALA's.

    Args:
        step_size: the proposal's standard deviation in unconstrained coordinates; None: adapted
            during warm-up to an acceptance rate of .4.
        inverse_mass_matrix: M, a vector (diagonal) over the unconstrained coordinates; None: the
            variances of the warm-up draws where the step size is adapted, too, else the identity.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, Barker(), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10)

    References:
        Livingstone and Zanella (2022), doi:10.1111/rssb.12482.
    """

    step_size: float | None = option(default=None, above=0)
    inverse_mass_matrix: Any = option(default=None, array=True)
    needs_gradient = True

    def __post_init__(self) -> None:
        refuse_matrix(self)

    @property
    def adapts(self) -> Any:
        return diagonal_window(self)

    def initial_tuning(self, size) -> dict[str, Any]:
        return with_diagonal(self, size, 1.5 / size ** (1 / 3))

    def target_acceptance(self, size) -> float:
        return 0.4

    def noise(self, key, position, leading=()) -> Any:
        walk, sign = jax.random.split(key)
        signs = jax.tree.map(
            jax.scipy.stats.norm.cdf, normals_like(sign, position, leading)
        )  # uniform numbers
        return *super().noise(walk, position, leading), signs

    def build(self, target, tuning) -> SamplingAlgorithm:
        init = initialise(target)

        def step(noise, state):
            walk, log_uniform, uniforms = noise
            moves = jax.tree.map(
                lambda z, u, g, scale: (
                    scale * z * jnp.where(u < jax.nn.sigmoid(scale * z * g), 1, -1)
                ),
                walk,
                uniforms,
                state.gradient,
                steps_of(tuning, state.position, power=0.5),
            )
            proposal = init(jax.tree.map(jnp.add, state.position, moves))

            def log_chance(gradient, sign):
                parts = jax.tree.map(
                    lambda m, g: total(jax.nn.log_sigmoid(sign * m * g)), moves, gradient
                )
                return sum(jax.tree.leaves(parts))

            ratio = proposal.logdensity - state.logdensity
            ratio += log_chance(proposal.gradient, -1) - log_chance(state.gradient, 1)
            info = metropolis(ratio, log_uniform, proposal.logdensity)
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)
