"""Microcanonical Langevin Monte Carlo, BlackJAX's."""

from typing import Any

import blackjax
import jax
import jax.numpy as jnp
from blackjax.mcmc import adjusted_mclmc, mclmc

from unnorm.core.method import method, option, static
from unnorm.sampling.base import Options, SamplingAlgorithm


@method
class MCLMC(Options):
    """Microcanonical Langevin: x moves at constant speed, its direction turned by ∇log p and by
    noise.

    Without adjustment nothing is rejected, the step size is tuned to a small energy error, and the
    draws carry a small bias; with it, whole trajectories are accepted or rejected. At least two
    dimensions.

    Args:
        step_size: None: adapted.
        length: the distance after which the direction is forgotten (L), unadjusted only; None:
            adapted.
        inverse_mass_matrix: a vector over the unconstrained coordinates; None: adapted.
        adjusted: accept or reject trajectories of `leapfrogs` steps on average.
        leapfrogs: mean steps of an adjusted trajectory.
        target_acceptance_rate: of the adjusted kernel.

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
    leapfrogs: int = static(default=4, at_least=1)
    target_acceptance_rate: float = static(default=0.8, above=0, below=1)
    needs_gradient = True
    bias = (
        "MCLMC without adjustment does not reject, so that its draws are off by the energy error "
        "of its steps; "
        "MCLMC(adjusted=True) is exact"
    )

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.adjusted

    @property
    def adapts(self) -> Any:
        return "window" if self.adjusted else "microcanonical"

    def prepare(self, target) -> Any:
        size = sum(
            leaf.size
            for leaf in jax.tree.leaves(target.random_position(jax.random.key(0), jnp.float32))
        )
        if size < 2:
            raise ValueError(
                f"MCLMC was given density {target.density.name} of 1 dimension; expected at "
                "least 2, for its speed is "
                "constant; use un.kernels.NUTS."
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
        return self.target_acceptance_rate

    def build(self, target, tuning) -> SamplingAlgorithm:
        mass, step_size = tuning["inverse_mass_matrix"], tuning["step_size"]
        if self.adjusted:
            kernel = adjusted_mclmc.build_kernel()

            def init(position, key=None):
                return adjusted_mclmc.init(position, target.within_range)

            def step(key, state):
                key, draw = jax.random.split(key)
                leapfrogs = jax.random.randint(draw, (), 1, 2 * self.leapfrogs)
                return kernel(key, state, target.within_range, step_size, (leapfrogs,), mass)

            return SamplingAlgorithm(init, step)
        kernel = mclmc.build_kernel()

        def init(position, key):  # type: ignore[no-redef]
            return mclmc.init(position, target.within_range, key)

        def step(key, state):  # type: ignore[no-redef]
            return kernel(key, state, target.within_range, mass, tuning["length"], step_size)

        return SamplingAlgorithm(init, step)

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
