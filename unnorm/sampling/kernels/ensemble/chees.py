"""ChEES-HMC: trajectories of one length for all chains, tuned by all of them."""

from typing import Any

import jax
import jax.numpy as jnp
from blackjax.mcmc import dynamic_hmc
from jax.flatten_util import ravel_pytree

from unnorm.core.method import method, option, static
from unnorm.sampling.base import Options, SamplingAlgorithm
from unnorm.sampling.strategies.trajectory_length import (
    Trajectory,
    TrajectoryOptions,
    steps_of_turn,
)


class _Length(Trajectory):
    """The maximum of ChEES itself, which for Hamiltonian trajectories exists."""

    lengths = TrajectoryOptions(cost=0.0)


@method
class ChEES(Options):
    """Hamiltonian Monte Carlo whose mean trajectory length maximizes the change in the estimator of
    the expected square: ChEES = ¼ E (|x' − E x|² − |x − E x|²)².

    All chains take the same, quasi-random number of steps, so that none waits for another as in
    NUTS. Made for many chains: 16 at least.

    Args:
        step_size: the leapfrog step; None: adapted.
        length: the mean length of a trajectory; None: adapted.
        inverse_mass_matrix: a vector over the unconstrained coordinates; None: adapted.
        target_acceptance_rate: what the adaptation aims at; .651 is optimal in many dimensions.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]})
        >>> draws = un.sample(normal, ChEES(), draws=10, chains=32, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (32, 10, 3)

    References:
        Hoffman, Radul and Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths
        in Hamiltonian Monte Carlo, Proceedings of Machine Learning Research 130, 3907-3915.
    """

    step_size: float | None = option(default=None, above=0)
    length: float | None = option(default=None, above=0)
    inverse_mass_matrix: Any = option(default=None, array=True)
    target_acceptance_rate: float = static(default=0.651, above=0, below=1)
    needs_gradient = True
    ensemble = True
    known_as = "chees"
    adapts = _Length()

    def initial_tuning(self, size) -> dict[str, Any]:
        step_size = 1.0 / size**0.25 if self.step_size is None else self.step_size
        given = self.inverse_mass_matrix
        return {
            "step_size": step_size,
            "length": step_size if self.length is None else self.length,
            "inverse_mass_matrix": jnp.ones(size) if given is None else given,
        }

    def target_acceptance(self, size) -> float:
        return self.target_acceptance_rate

    def build(self, target, tuning) -> SamplingAlgorithm:
        step_size = tuning["step_size"]
        kernel = dynamic_hmc.build_kernel(
            integration_steps_fn=lambda turn: steps_of_turn(turn, tuning["length"] / step_size),
            next_random_arg_fn=lambda turn: turn + 1,
        )

        def init(position, key=None):
            first = jnp.zeros((), jnp.int32)
            return dynamic_hmc.init(position, target.within_range, first)

        def step(key, state):
            metric = tuning["inverse_mass_matrix"]
            return kernel(key, state, target.within_range, step_size, metric)

        return SamplingAlgorithm(init, step)

    def end_of_trajectory(self, info, metric) -> tuple[Any, jax.Array, jax.Array]:
        """Where a trajectory ended, its velocity in the coordinates of the metric, its steps."""
        velocity = jnp.sqrt(metric) * ravel_pytree(info.proposal.momentum)[0]
        return info.proposal.position, velocity, info.num_integration_steps

    def stats(self, info) -> dict[str, jax.Array]:
        height = info.proposal.logdensity
        return {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "energy": info.energy,
            "n_steps": info.num_integration_steps,
            "nan_proposal": jnp.isnan(height),
            "inf_proposal": jnp.isposinf(height),
        }
