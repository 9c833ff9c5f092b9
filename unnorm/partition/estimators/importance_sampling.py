"""log Z by importance sampling from one proposal, the heaviest weights Pareto-smoothed."""

from typing import Any

import jax

from unnorm.core.method import method, static
from unnorm.core.random_keys import split_keys
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import start_proposal
from unnorm.partition.base import LogZ
from unnorm.partition.importance_weights import importance_estimate
from unnorm.partition.proposals.user_given import check_proposal


@method
class ImportanceSampling:
    """log Z = log E_q[p̃(x)/q(x)], q Student's t about the modes that a pilot finds, independent
    discrete states.

    The largest weights are replaced by quantiles of a generalized Pareto distribution, whose shape
    k̂ decides the verdict: above .5 their variance is not finite, above .7 not even their mean is
    reliable. Above 0, where they are unbounded, their ESS must be 5% of their number. A mode that q
    never reaches is not seen.

    Args:
        draws: from q.
        base: q: None for a mixture at the modes, "pathfinder", "flow" (fitted to annealed
            draws), NumPyro distributions of the continuous variables (a dict), or draws of the
            density (a dict by variable, or what `un.sample` returns) whose mean and covariance a
            Student's t takes.

    Example:
        >>> import unnorm as un
        >>> identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        >>> p = un.models.gaussian_graphical.bind(eta=[0.0, 0.0, 0.0], precision=identity)
        >>> z = un.log_z(p, un.estimators.ImportanceSampling(), seed=0, progress=False)
        >>> abs(z.value - 2.7568) < 4 * z.standard_error
        True

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), arXiv:1507.02646.
    """

    draws: int = static(default=10_000, at_least=100)
    base: Any = None

    def __call__(self, density: Density, key: jax.Array) -> LogZ:
        check_proposal("ImportanceSampling", density, self.base)
        pilot_key, key = split_keys(key)
        proposal, spent = start_proposal(density, pilot_key, self.base)
        return importance_estimate(proposal, key, self.draws, spent)


__all__ = ["ImportanceSampling"]
