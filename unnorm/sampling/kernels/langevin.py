"""Langevin kernels: unadjusted (ULA) and Metropolis-adjusted (MALA)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.method import method, option
from unnorm.sampling.base import (
    Options,
    ProposalInfo,
    SamplingAlgorithm,
    WalkNoise,
    metropolis,
    normals_like,
    total,
    tree_where,
)
from unnorm.sampling.diagonal_metric import diagonal_window, refuse_matrix, steps_of, with_diagonal


class LangevinState(NamedTuple):
    """A position with its log-density and gradient."""

    position: dict
    logdensity: jax.Array
    gradient: dict


def initialise(target: Any) -> Callable[..., LangevinState]:
    """The function that makes the state of a position."""

    def init(position, key=None):
        return LangevinState(position, *jax.value_and_grad(target.log_density)(position))

    return init


def _move(state: LangevinState, step_sizes, noise):
    """x + ε ∇log p + √(2ε) z, with a step size ε or one for each coordinate."""
    spreads = jax.tree.map(lambda step: jnp.sqrt(2 * step), step_sizes)
    return jax.tree.map(
        lambda x, g, z, step, spread: x + step * g + spread * z,
        state.position,
        state.gradient,
        noise,
        step_sizes,
        spreads,
    )


@method
class ULA(Options):
    """Unadjusted Langevin: x + ε∇log p(x) + √(2ε) z, never rejected, and therefore biased by its
    step.

    Args:
        step_size: ε in unconstrained coordinates. Along a Gaussian direction of precision p its
            draws have the variance 1 / (p (1 − εp/2)) in place of 1/p.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, ULA(step_size=0.1),
        ...     draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10)

    References:
        Roberts and Tweedie (1996), Bernoulli 2, 341-363, doi:10.2307/3318418.
    """

    step_size: float = option(default=0.01, above=0)
    needs_gradient = True
    exact = False
    bias = (
        "ULA does not reject, so that its draws follow another density, off by an error of the "
        "order of the step size "
        "(on a Gaussian of precision p the variance 1/(p(1 - step_size p/2)))"
    )

    def initial_tuning(self, size) -> dict[str, Any]:
        return {"step_size": self.step_size}

    def noise(self, key, position) -> Any:
        return normals_like(key, position)

    def block_noise(self, key, position, steps) -> Any:
        return normals_like(key, position, (steps,))

    def build(self, target, tuning) -> SamplingAlgorithm:
        init = initialise(target)

        def step(noise, state):
            proposal = init(_move(state, steps_of(tuning, state.position), noise))
            value = proposal.logdensity
            return proposal, ProposalInfo(
                jnp.ones_like(value), jnp.array(True), jnp.isnan(value), jnp.isposinf(value)
            )

        return SamplingAlgorithm(init, step)


@method
class MALA(WalkNoise, Options):  # type: ignore[misc]
    """Metropolis-adjusted Langevin: propose x + εM∇log p(x) + √(2εM) z, accept by the
    Metropolis-Hastings ratio.

    Args:
        step_size: ε in unconstrained coordinates; None: adapted during warm-up, to an acceptance
            rate of .574.
        inverse_mass_matrix: M, a vector (diagonal) over the unconstrained coordinates; None: the
            variances of the warm-up draws where the step size is adapted, too, else the identity.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, MALA(), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10)

    References:
        Roberts and Rosenthal (1998), doi:10.1111/1467-9868.00123.
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
        return with_diagonal(self, size, 0.5 / size ** (1 / 3))

    def target_acceptance(self, size) -> float:
        return 0.574

    def build(self, target, tuning) -> SamplingAlgorithm:
        init = initialise(target)

        def log_transitions(x, y, g, z, step_size):
            """log q(x | y) − log q(y | x): the way there is the noise z itself, and one sum serves
            both ways.
            """
            return total(0.5 * z**2 - (x - y - step_size * g) ** 2 / (4 * step_size))

        def step(noise, state):
            walk, log_uniform = noise
            steps = steps_of(tuning, state.position)
            proposal = init(_move(state, steps, walk))
            ways = jax.tree.map(
                log_transitions, state.position, proposal.position, proposal.gradient, walk, steps
            )
            ratio = proposal.logdensity - state.logdensity + sum(jax.tree.leaves(ways))
            info = metropolis(ratio, log_uniform, proposal.logdensity)
            return tree_where(info.is_accepted, proposal, state), info

        return SamplingAlgorithm(init, step)
