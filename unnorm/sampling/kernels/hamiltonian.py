"""Hamiltonian kernels, BlackJAX's: HMC and NUTS, with window adaptation of step size and mass
matrix.
"""

from typing import Any, ClassVar

import blackjax
import jax
import jax.numpy as jnp

from unnorm.core.method import method, option, static
from unnorm.sampling.base import Options, SamplingAlgorithm
from unnorm.sampling.strategies.low_rank import (
    LowRankOptions,
    LowRankWindow,
    no_correlations,
    words_of,
)
from unnorm.sampling.strategies.whitening import in_whitened_coordinates

METRICS = ("diagonal", "dense", "low_rank", "auto")


class _Hamiltonian(Options):
    """What HMC and NUTS share."""

    needs_gradient: ClassVar[bool] = True
    step_size: Any
    inverse_mass_matrix: Any
    dense_mass: bool
    metric: str | None
    target_acceptance_rate: float

    def __post_init__(self) -> None:
        if self.dense_mass and self.metric not in (None, "dense"):
            raise ValueError(
                f"{type(self).__name__} was given dense_mass=True and metric={self.metric!r}; "
                "expected one of the two, because dense_mass=True is metric='dense'; leave one out."
            )
        if self.whitened and self.inverse_mass_matrix is not None:
            raise ValueError(
                f"{type(self).__name__} was given inverse_mass_matrix and metric={self.metric!r}, "
                "which is learned; expected one of the two; leave one out."
            )

    @property
    def adapts(self) -> Any:
        return LowRankWindow() if self.whitened else "window"

    @property
    def whitened(self) -> bool:
        """Whether the metric is a product with eigenvectors, by which positions are whitened."""
        return self.metric in ("low_rank", "auto")

    def initial_tuning(self, size: int) -> dict[str, Any]:
        step_size = 1.0 / size**0.25 if self.step_size is None else self.step_size
        metric = self.inverse_mass_matrix
        if self.whitened:
            ranks = LowRankOptions()
            rank = ranks.rank if self.metric == "low_rank" else ranks.most
            metric = no_correlations(size, rank)
        elif metric is None:
            metric = jnp.eye(size) if self.dense else jnp.ones(size)
        return {"step_size": step_size, "inverse_mass_matrix": metric}

    @property
    def dense(self) -> bool:  # type: ignore[override]
        return self.dense_mass or self.metric == "dense"

    def said_of(self, tuning: dict[str, Any]) -> str | None:
        """What warm-up decided, for people."""
        return words_of(tuning["inverse_mass_matrix"]) if self.metric == "auto" else None

    def target_acceptance(self, size: int) -> float:
        return self.target_acceptance_rate

    def _stats(self, info, *ends) -> dict:
        """What both tell, given the log-densities at which a trajectory could have gone wrong."""
        heights = jnp.stack(ends)
        return {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "energy": info.energy,
            "n_steps": info.num_integration_steps,
            "nan_proposal": jnp.isnan(heights).any(),
            "inf_proposal": jnp.isposinf(heights).any(),
        }


@method
class HMC(_Hamiltonian):
    """Hamiltonian Monte Carlo with a fixed number of leapfrog steps (BlackJAX's kernel).

    Trajectories of one length may come back to where they began: on a Gaussian some squares then
    never change. So each draw's step size is uniform within ± `jitter` of the adapted one.

    Args:
        step_size: the leapfrog step; None: adapted.
        leapfrogs: leapfrog steps per draw.
        inverse_mass_matrix: a vector (diagonal) or a matrix over the unconstrained coordinates;
            None: adapted.
        dense_mass: adapt a full matrix in place of a diagonal: metric="dense".
        metric: what is adapted: "diagonal" (None is the same), "dense", "low_rank" (a diagonal and
            the eigenvectors of the correlations that stand out) or "auto" (the one of the three
            that the correlations of the warm-up ask for).
        target_acceptance_rate: what the adaptation aims at.
        jitter: relative spread of the step size, from 0 to below 1.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, HMC(leapfrogs=5), draws=10, chains=2, seed=0, progress=False)
        >>> draws.posterior["x"].shape
        (2, 10)

    References:
        Duane et al. (1987), doi:10.1016/0370-2693(87)91197-X; Neal (2011), arXiv:1206.1901 (section
        3.2: jitter).
    """

    step_size: float | None = option(default=None, above=0)
    leapfrogs: int = static(default=8, at_least=1)
    inverse_mass_matrix: Any = option(default=None, array=True)
    target_acceptance_rate: float = static(default=0.8, above=0, below=1)
    dense_mass: bool = static(default=False)
    metric: str | None = static(default=None, choices=METRICS)
    jitter: float = option(default=0.2, at_least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.jitter < 1:
            raise ValueError(
                f"jitter is {self.jitter!r}; it must be at least 0 and below 1; correct it."
            )

    def build(self, target, tuning) -> SamplingAlgorithm:
        kernel = blackjax.hmc.build_kernel()

        def init(position, key=None):
            return blackjax.hmc.init(position, target.within_range)

        def move(key, state, log_density, metric):
            shake, key = jax.random.split(key)
            step_size = tuning["step_size"] * (
                1 + self.jitter * jax.random.uniform(shake, minval=-1.0)
            )
            return kernel(key, state, log_density, step_size, metric, self.leapfrogs)

        metric = tuning["inverse_mass_matrix"]
        if self.whitened:
            return in_whitened_coordinates(target, metric, move)
        return SamplingAlgorithm(
            init, lambda key, state: move(key, state, target.within_range, metric)
        )

    def stats(self, info) -> dict[str, jax.Array]:
        return self._stats(info, info.proposal.logdensity)


@method
class NUTS(_Hamiltonian):
    """The No-U-Turn sampler (BlackJAX's kernel).

    Args:
        step_size: the leapfrog step; None: adapted.
        inverse_mass_matrix: a vector (diagonal) or a matrix over the unconstrained coordinates;
            None: adapted.
        dense_mass: adapt a full matrix in place of a diagonal: metric="dense".
        metric: what is adapted: "diagonal" (None is the same), "dense", "low_rank" (a diagonal and
            the eigenvectors of the correlations that stand out) or "auto" (the one of the three
            that the correlations of the warm-up ask for).
        max_tree_depth: doublings of the trajectory at most.
        target_acceptance_rate: what the adaptation aims at; .88, for chains are adapted together:
            their average lands on it, where that of a single chain lands above its target (near .9
            for .8).

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> draws = un.sample(normal, NUTS(), draws=10, chains=2, seed=0, progress=False)
        >>> int(draws.sample_stats["tree_depth"].min()) >= 1
        True

    References:
        Hoffman and Gelman (2014), Journal of Machine Learning Research 15, 1593-1623,
        arXiv:1111.4246.
    """

    step_size: float | None = option(default=None, above=0)
    inverse_mass_matrix: Any = option(default=None, array=True)
    max_tree_depth: int = static(default=10, at_least=1, at_most=30)
    target_acceptance_rate: float = static(default=0.88, above=0, below=1)
    dense_mass: bool = static(default=False)
    metric: str | None = static(default=None, choices=METRICS)

    def build(self, target, tuning) -> SamplingAlgorithm:
        size, depth = tuning["step_size"], self.max_tree_depth
        if self.whitened:
            kernel = blackjax.nuts.build_kernel()

            def step(key, state, log_density, unit):
                return kernel(key, state, log_density, size, unit, max_num_doublings=depth)

            return in_whitened_coordinates(target, tuning["inverse_mass_matrix"], step)
        return blackjax.nuts(
            target.within_range, size, tuning["inverse_mass_matrix"], max_num_doublings=depth
        )

    def stats(self, info) -> dict[str, jax.Array]:
        ends = info.trajectory_leftmost_state.logdensity, info.trajectory_rightmost_state.logdensity
        return self._stats(info, *ends) | {"tree_depth": info.num_trajectory_expansions}
