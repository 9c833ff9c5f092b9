"""Microcanonical Langevin Monte Carlo, BlackJAX's."""

from typing import Any

import blackjax
import jax
import jax.numpy as jnp
from blackjax.mcmc import adjusted_mclmc, adjusted_mclmc_dynamic, mclmc
from jax.flatten_util import ravel_pytree

from unnorm.core.method import method, option, static
from unnorm.sampling.base import Options, SamplingAlgorithm
from unnorm.sampling.strategies.trajectory_length import Trajectory, steps_of_turn


@method
class MCLMC(Options):
    """Microcanonical Langevin: x moves at constant speed, its direction turned by ∇log p and by
    noise.

    Without adjustment nothing is rejected, the step size is tuned to a small energy error, and the
    draws carry a small bias; with it, whole trajectories are accepted or rejected, and step size,
    metric and length of the trajectory are learned from all chains together. At least two
    dimensions.

    Args:
        step_size: None: adapted.
        length: the distance after which the direction is forgotten (L), adjusted: the mean length
            of a trajectory; None: adapted.
        inverse_mass_matrix: a vector over the unconstrained coordinates; None: adapted.
        adjusted: accept or reject whole trajectories.
        leapfrogs: mean steps of an adjusted trajectory, of two gradients each; None: `length` over
            step size.
        target_acceptance_rate: of the adjusted kernel; None: .9 where the length is adapted, the
            authors' choice (acceptance falls steeply with the step size), .8 with `leapfrogs`.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]})
        >>> draws = un.sample(normal, MCLMC(adjusted=True),
        ...     draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10, 3)

    References:
        Robnik et al. (2023), arXiv:2212.08549; Robnik, Cohn-Gordon and Seljak (2025),
        arXiv:2503.01707 (adjusted).
    """

    step_size: float | None = option(default=None, above=0)
    length: float | None = option(default=None, above=0)
    inverse_mass_matrix: Any = option(default=None, array=True)
    adjusted: bool = static(default=False)
    leapfrogs: int | None = static(default=None, at_least=1)
    target_acceptance_rate: float | None = static(default=None, above=0, below=1)
    needs_gradient = True
    bias = (
        "MCLMC without adjustment does not reject, so that its draws are off by the energy error "
        "of its steps; "
        "MCLMC(adjusted=True) is exact"
    )

    def __post_init__(self) -> None:
        if self.adjusted and self.leapfrogs is not None and self.length is not None:
            raise ValueError(
                f"MCLMC was given length and leapfrogs={self.leapfrogs}; expected one of the two; "
                "pass the length, or the number of steps."
            )

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.adjusted

    @property
    def adapts(self) -> Any:
        if not self.adjusted:
            return "microcanonical"
        return Trajectory() if self.leapfrogs is None else "window"

    def prepare(self, target) -> Any:
        size = sum(
            leaf.size
            for leaf in jax.tree.leaves(target.random_position(jax.random.key(0), jnp.float32))
        )
        if size < 2:
            raise ValueError(
                f"MCLMC was given density {target.density.name} of 1 dimension; expected at least "
                "2, because its speed is constant; use un.kernels.NUTS."
            )
        return self

    def initial_tuning(self, size) -> dict[str, Any]:
        given = self.inverse_mass_matrix
        return {
            "step_size": 0.25 * size**0.5 if self.step_size is None else self.step_size,
            "length": size**0.5 if self.length is None else self.length,
            "inverse_mass_matrix": jnp.ones(size) if given is None else given,
        }

    def target_acceptance(self, size) -> Any:
        if self.target_acceptance_rate is not None:
            return self.target_acceptance_rate
        return 0.9 if self.leapfrogs is None else 0.8

    def build(self, target, tuning) -> SamplingAlgorithm:
        if not self.adjusted:
            return _unadjusted(target, tuning)
        if self.leapfrogs is None:
            return _of_length(target, tuning)
        return _of_leapfrogs(target, tuning, self.leapfrogs)

    def end_of_trajectory(self, info, metric) -> tuple[Any, jax.Array, jax.Array]:
        """Where a trajectory ended, its velocity in the coordinates of the metric, its steps."""
        velocity = ravel_pytree(info.proposal.momentum)[0]
        return info.proposal.position, velocity, info.num_integration_steps

    def warm_up(self, target, states, key, steps, tuning) -> Any:
        """BlackJAX's own tuning on every chain by itself, pooled by medians; (states, tuning)."""
        chains = jax.tree.leaves(states)[0].shape[0]
        # Its three phases take a third of the steps that they are given.
        total = max(3 * steps, 30)

        def one(state, key):
            state, found, _ = blackjax.mclmc_find_L_and_step_size(
                mclmc.build_kernel(), total, state, key, target.within_range
            )
            return state, found

        states, found = jax.vmap(one)(states, jax.random.split(key, chains))
        pooled = {
            "step_size": jnp.nanmedian(found.step_size),
            "length": jnp.nanmedian(found.L),
            "inverse_mass_matrix": jnp.nanmedian(found.inverse_mass_matrix, 0),
        }
        return states, tuning | {
            name: value for name, value in pooled.items() if getattr(self, name) is None
        }

    def stats(self, info) -> dict[str, Any]:
        if self.adjusted:
            return {
                "acceptance_rate": info.acceptance_rate,
                "diverging": info.is_divergent,
                "n_steps": info.num_integration_steps,
                "nan_proposal": jnp.isnan(info.proposal.logdensity),
                "inf_proposal": jnp.isposinf(info.proposal.logdensity),
            }
        return {
            "energy_error": info.energy_change,
            "diverging": ~info.nonans,
            "inf_proposal": jnp.isposinf(info.logdensity),
        }


def _unadjusted(target, tuning) -> SamplingAlgorithm:
    kernel = mclmc.build_kernel()
    mass, step_size = tuning["inverse_mass_matrix"], tuning["step_size"]

    def init(position, key):
        return mclmc.init(position, target.within_range, key)

    def step(key, state):
        return kernel(key, state, target.within_range, mass, tuning["length"], step_size)

    return SamplingAlgorithm(init, step)


def _of_length(target, tuning) -> SamplingAlgorithm:
    """Trajectories of the tuned length on average; all chains take the same number of steps."""
    mass, step_size = tuning["inverse_mass_matrix"], tuning["step_size"]
    kernel = adjusted_mclmc_dynamic.build_kernel(
        integration_steps_fn=steps_of_turn, next_random_arg_fn=lambda turn: turn + 1
    )

    def init(position, key=None):
        first = jnp.zeros((), jnp.int32)
        return adjusted_mclmc_dynamic.init(position, target.within_range, first)

    def step(key, state):
        mean = tuning["length"] / step_size
        return kernel(
            key,
            state,
            target.within_range,
            step_size,
            inverse_mass_matrix=mass,
            integration_steps_params=(mean,),
        )

    return SamplingAlgorithm(init, step)


def _of_leapfrogs(target, tuning, leapfrogs: int) -> SamplingAlgorithm:
    """Trajectories of this number of steps on average."""
    mass, step_size = tuning["inverse_mass_matrix"], tuning["step_size"]
    kernel = adjusted_mclmc.build_kernel()

    def init(position, key=None):
        return adjusted_mclmc.init(position, target.within_range)

    def step(key, state):
        key, draw = jax.random.split(key)
        steps = jax.random.randint(draw, (), 1, 2 * leapfrogs)
        return kernel(key, state, target.within_range, step_size, (steps,), mass)

    return SamplingAlgorithm(init, step)
