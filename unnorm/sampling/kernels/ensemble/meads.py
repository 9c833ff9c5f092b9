"""MEADS: generalized HMC, its step, damping and scales from the moments of all chains."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.mcmc import ghmc

from unnorm.core.method import method, option
from unnorm.sampling.adaptation import NoAdaptation, flat_positions, unless_given
from unnorm.sampling.base import Options, SamplingAlgorithm


@dataclass(frozen=True)
class MomentOptions:
    """How moments of the chains become options of the kernel; the authors' numbers.

    Args:
        step_share: of the step at which the stiffest direction would be unstable, in units of 2.
        largest_step: in the scales of the chains.
        forgetting: weight of one step in the running mean of the options that draws are made with.
    """

    step_share: float = 0.5
    largest_step: float = 1.0
    forgetting: float = 0.05


class MomentState(NamedTuple):
    """The options of the next step, their running means, and the chains' gradients."""

    now: dict
    mean: dict
    gradients: jax.Array
    turn: jax.Array


class Moments(NoAdaptation):
    """The largest eigenvalues of the chains' gradients and positions, and their scales."""

    windows = True
    options = MomentOptions()

    def begin(self, kernel, tuning, positions) -> Any:
        flat = flat_positions(positions)
        if len(flat) < 2:
            raise ValueError(
                "chains is 1; MEADS must have at least 2, because it learns from their spread; "
                "pass chains=64, or use un.kernels.NUTS."
            )
        now = {name: jnp.asarray(tuning[name], flat.dtype) for name in tuning}
        return MomentState(now, now, jnp.zeros_like(flat), jnp.zeros((), jnp.int32))

    def current(self, kernel, state, tuning, chain) -> dict:
        return unless_given(kernel, tuning, state.now)

    def restart(self, state, states, stage) -> tuple[Any, Any]:
        """Moves no chain; remembers the gradients, which `advance` is not given."""
        return state._replace(gradients=flat_positions(states.logdensity_grad)), states

    def advance(self, kernel, state, positions, info, stage) -> Any:
        now = self._of_moments(flat_positions(positions), state)
        weight = jnp.maximum(self.options.forgetting, 1 / (1.0 + state.turn))
        mean = jax.tree.map(lambda old, new: old + weight * (new - old), state.mean, now)
        return MomentState(now, mean, state.gradients, state.turn + 1)

    def _of_moments(self, flat: jax.Array, state: MomentState) -> dict:
        """Algorithm 3 of Hoffman and Sountsov for one fold: all chains."""
        scales = flat.std(0)
        scales = jnp.where((scales > 0) & jnp.isfinite(scales), scales, 1.0)
        stiffness = largest_eigenvalue(jnp.nan_to_num(state.gradients * scales))
        step = self.options.step_share / jnp.sqrt(jnp.maximum(stiffness, 1e-12))
        step = jnp.minimum(step, self.options.largest_step)
        spread = largest_eigenvalue((flat - flat.mean(0)) / scales)
        damping = jnp.maximum(
            jax.lax.rsqrt(jnp.maximum(spread, 1e-12)), 1 / ((1 + state.turn) * step)
        )
        return {
            "step_size": step,
            "refreshment": -jnp.expm1(-2 * step * damping),
            "inverse_mass_matrix": scales**2,
        }

    def finish(self, kernel, state, tuning) -> dict:
        return unless_given(kernel, tuning, state.mean)


def largest_eigenvalue(rows: jax.Array) -> jax.Array:
    """Σ λ² / Σ λ of the covariance behind independent rows, both sums estimated without bias."""
    count, size = rows.shape
    products = rows @ rows.T if count <= size else rows.T @ rows
    squares = (rows**2).sum(1)
    return (jnp.sum(products**2) - jnp.sum(squares**2)) / ((count - 1) * squares.sum())


@method
class MEADS(Options):
    """Generalized HMC: one leapfrog step, a momentum that persists, v ← √(1 − α) v + √α z, and a
    slice variable that moves steadily, so that rejections come in clusters.

    Step ε = ½ λ(∇log p)^-½, damping γ = λ(x)^-½ and α = 1 − exp(−2 ε γ) follow from the largest
    eigenvalues of the chains' gradients and positions, in their scales. Made for many chains: 16 at
    least. A draw is one gradient: thin it.

    Args:
        step_size: the leapfrog step; None: adapted.
        refreshment: α, the share of the momentum's variance that is renewed in a step; None:
            adapted.
        inverse_mass_matrix: a vector over the unconstrained coordinates; None: adapted.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x @ x, {"x": un.Real[3]})
        >>> draws = un.sample(normal, MEADS(), draws=10, chains=32, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (32, 10, 3)

    References:
        Hoffman and Sountsov (2022), Tuning-free generalized Hamiltonian Monte Carlo, Proceedings of
        Machine Learning Research 151, 7799-7813; Neal (2020), arXiv:2001.11950 (the slice).
    """

    step_size: float | None = option(default=None, above=0)
    refreshment: float | None = option(default=None, above=0, at_most=1)
    inverse_mass_matrix: Any = option(default=None, array=True)
    needs_gradient = True
    ensemble = True
    adapts = Moments()

    def initial_tuning(self, size) -> dict[str, Any]:
        given = self.inverse_mass_matrix
        return {
            "step_size": 0.1 / size**0.25 if self.step_size is None else self.step_size,
            "refreshment": 1.0 if self.refreshment is None else self.refreshment,
            "inverse_mass_matrix": jnp.ones(size) if given is None else given,
        }

    def build(self, target, tuning) -> SamplingAlgorithm:
        kernel = ghmc.build_kernel()
        scales = jnp.sqrt(tuning["inverse_mass_matrix"])
        refreshment = tuning["refreshment"]

        def init(position, key):
            return ghmc.init(position, target.within_range, key)

        def step(key, state):
            return kernel(
                key,
                state,
                target.within_range,
                tuning["step_size"],
                scales,
                refreshment,
                refreshment / 2,
            )

        return SamplingAlgorithm(init, step)

    def stats(self, info) -> dict[str, jax.Array]:
        height = info.proposal.logdensity
        return {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "n_steps": info.num_integration_steps,
            "nan_proposal": jnp.isnan(height),
            "inf_proposal": jnp.isposinf(height),
        }
