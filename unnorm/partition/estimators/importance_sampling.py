"""log Z by importance sampling from one proposal, the heaviest weights Pareto-smoothed."""

import functools
from typing import Any

import jax
import numpy as np

from unnorm.core.method import method, static
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import begun
from unnorm.partition.annealing.transitions import height_of
from unnorm.partition.base import LogZ, added
from unnorm.partition.proposals.mixture import Base, draw, log_base
from unnorm.partition.proposals.user_given import check_base
from unnorm.partition.weight_checks import LEAST_SHARE, infinite, judged, refuse_small
from unnorm.statistics.importance_weights import mean_of, pareto_smoothed

# draws at a time: XLA for CPUs (JAX 0.10.2) has summed wrongly over 10,000 that were fused into one
BLOCK = 1000
# of weights without an upper end (k̂ > 0): on a funnel two of 1,000 runs, worth 2%, were .23 low
SHARE_OF_TAILED = 0.05


@method
class ImportanceSampling:
    """log Z = log E_q[p̃(x)/q(x)], q Student's t about the modes that a pilot finds, independent
    discrete states.

    The largest weights are replaced by quantiles of a generalized Pareto law, whose shape k̂ is the
    verdict: above .5 their variance is not finite, above .7 not even their mean is to be believed.
    Above 0, where they have no upper end, they must be worth 5% of their number. A mode that q
    never reaches is unseen.

    Args:
        draws: from q.
        base: q: None for the modes that climbs find, "pathfinder", "flow" (fitted to annealed
            draws), NumPyro distributions of the continuous variables (a dict), or draws of the
            density (a dict by variable, or what `un.sample` returns) whose mean and covariance a
            Student's t takes.

    Example:
        >>> import unnorm as un
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> z = un.log_z(p, un.estimators.ImportanceSampling(), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), arXiv:1507.02646.
    """

    draws: int = static(10_000, at_least=100)
    base: Any = None

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        refuse_small("ImportanceSampling", draws=(self.draws, 100))
        check_base("ImportanceSampling", density, self.base)
        pilot_key, key = jax.random.split(key)
        base, cost, endless = begun(density, pilot_key, self.base)
        if endless:
            return infinite(density, "importance_sampling", cost, endless)
        return weighed(density, base, key, self.draws, cost)


def weighed(density: Density, base: Base, key: jax.Array, draws: int, cost: dict[str, int]) -> LogZ:
    """log Z by so many draws from a base, at a cost so far."""
    cost = added(cost, {"values": draws, "gradients": 0})
    return judged_by_tail(density, log_weights(density, base, key, draws), cost, SHARE_OF_TAILED)


def judged_by_tail(
    density: Density, logs: np.ndarray, cost: dict[str, int], share_of_tailed: float = LEAST_SHARE
) -> LogZ:
    """log Z from the log-weights of independent draws of a base; uneven ones may yet show mass that
    chains missed.
    """
    smoothed, shape = pareto_smoothed(logs)
    value, error = mean_of(smoothed)
    share = share_of_tailed if shape > 0 else LEAST_SHARE
    return judged(
        density,
        "importance_sampling",
        value,
        error,
        cost,
        logs,
        shape,
        bounded=False,
        least_share=share,
    )


def log_weights(density: Density, base: Base, key: jax.Array, draws: int) -> np.ndarray:
    """log p̃ − log q at so many draws of q."""
    return np.asarray(_log_weights(density, base, key, draws), float)


@functools.partial(jax.jit, static_argnames="draws")
def _log_weights(density: Density, base: Base, key: jax.Array, draws: int) -> jax.Array:
    def one(key):
        position = draw(density, base, key)
        return height_of(density, position) - log_base(density, base, position)

    return jax.lax.map(one, jax.random.split(key, draws), batch_size=BLOCK)


__all__ = ["ImportanceSampling", "judged_by_tail", "log_weights", "weighed"]
