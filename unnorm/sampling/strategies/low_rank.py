"""A metric of low rank, or of any rank that the draws of the windows ask for.

M⁻¹ = diag(σ) (I + U (Λ − I) Uᵀ) diag(σ): standard deviations σ, and eigenvectors U of the
correlation matrix with their eigenvalues Λ where these differ from 1. With all Λ = 1 it is a
diagonal metric, with all eigenvectors a dense one.

References: Seyboldt, Carlson and Carpenter (2026), arXiv:2603.18845 (the form of the metric);
Johnstone (2001), doi:10.1214/aos/1009210544 (how far eigenvalues of noise spread).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.metric_estimators import select_top_eigenvalues_by_informativeness
from blackjax.mcmc.metrics import LowRankInverseMassMatrix

from unnorm.sampling.adaptation import Window, WindowState, flat_positions
from unnorm.sampling.metric import Moments, metric_of, no_moments


@dataclass(frozen=True)
class LowRankOptions:
    """How many correlations a metric keeps.

    Args:
        rank: eigenvectors of metric="low_rank".
        most: eigenvectors of metric="auto": a matrix of 200 columns costs a leapfrog step less than
            the step saves.
        cutoff: eigenvalues between its inverse and itself are taken for 1 (as in nutpie).
        condition: of the correlation matrix, over that which noise alone would show, above which
            metric="auto" leaves the diagonal: trajectories are half as long without it, which pays
            for the products with U.
        most_noise: square root of dimensions over draws, at most: from 1 on all may be noise.
        draws_for_dense: draws for each dimension from which metric="auto" keeps every eigenvalue:
            with fewer, noise makes more of the small ones than there is.
    """

    rank: int = 10
    most: int = 200
    cutoff: float = 2.0
    condition: float = 4.0
    most_noise: float = 0.95
    draws_for_dense: float = 10.0


class LowRankWindow(Window):
    """Stan's windows with a metric of low rank, decided at the end of each window."""

    def begin(self, kernel, tuning, positions) -> Any:
        moments = no_moments(flat_positions(positions).shape[1], dense=True)
        steps = super().begin(kernel, tuning | {kernel.metric_option: 1.0}, positions).steps
        metric = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), tuning[kernel.metric_option])
        return WindowState(steps, moments, metric)

    def learn_metric(self, kernel, moments, old, ends) -> Any:
        """The metric in use, a new one at the end of a window."""
        return jax.lax.cond(
            ends, lambda: low_rank_of(moments, old, kernel.metric == "auto"), lambda: old
        )


def no_correlations(size: int, rank: int) -> LowRankInverseMassMatrix:
    """The metric before anything is known."""
    return LowRankInverseMassMatrix(
        jnp.ones(size), jnp.zeros((size, min(size, rank))), jnp.ones(min(size, rank))
    )


def low_rank_of(
    moments: Moments,
    old: LowRankInverseMassMatrix,
    adaptive: bool,
    options: LowRankOptions = LowRankOptions(),
) -> LowRankInverseMassMatrix:
    """The metric of these draws; a coordinate that did not move keeps its scale.

    With `adaptive`, correlations are left out where their condition number is no more than
    `options.condition` times that of noise, and all are kept where draws abound.
    """
    rank, size = len(old.lam), len(old.sigma)
    covariance = metric_of(moments, jnp.diag(old.sigma**2))
    sigma = jnp.sqrt(jnp.diagonal(covariance))
    eigenvalues, vectors = jnp.linalg.eigh(covariance / (sigma[:, None] * sigma))
    floor = jnp.finfo(eigenvalues.dtype).eps * size
    eigenvalues = jnp.maximum(eigenvalues, floor)
    # Eigenvalues of uncorrelated draws lie between (1 - share)² and (1 + share)².
    share = jnp.minimum(jnp.sqrt(size / jnp.maximum(moments.count, 1)), options.most_noise)
    cutoff = jnp.maximum(options.cutoff, jnp.maximum((1 + share) ** 2, (1 - share) ** -2))
    vectors, lam = select_top_eigenvalues_by_informativeness(
        eigenvalues, vectors, rank, cutoff=cutoff
    )
    if adaptive:
        noise = ((1 + share) / (1 - share)) ** 2
        correlated = eigenvalues[-1] / eigenvalues[0] > options.condition * noise
        if rank == size:
            order = jnp.argsort(-jnp.abs(eigenvalues - 1))
            abundant = moments.count >= options.draws_for_dense * size
            lam = jnp.where(abundant, eigenvalues[order], lam)
        lam = jnp.where(correlated, lam, 1.0)
    sound = jnp.isfinite(vectors).all() & jnp.isfinite(lam).all()
    return LowRankInverseMassMatrix(
        sigma, jnp.where(sound, vectors, 0.0), jnp.where(sound, lam, 1.0)
    )


def words_of(metric: LowRankInverseMassMatrix) -> str:
    """Which kind of metric it is, for people."""
    kept = int((np.asarray(metric.lam) != 1).sum())
    if not kept:
        return "a diagonal metric: no correlations stood out in warm-up"
    spread = np.append(np.asarray(metric.lam, float), 1.0)
    kind = "a dense metric" if kept == len(metric.sigma) else f"a metric of rank {kept}"
    return f"{kind}: the condition number of its correlations is {spread.max() / spread.min():,.0f}"
