"""log Z by importance sampling from one proposal, the heaviest weights Pareto-smoothed."""

from typing import Any

import jax
import numpy as np

from unnorm.core.compilation.policy import CompilationOptions, compiled
from unnorm.core.method import method, static
from unnorm.core.random_keys import key_array, split_keys
from unnorm.declaration.density import Density
from unnorm.partition.annealing.pilot_run import start_proposal
from unnorm.partition.annealing.tempered import log_target
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.options import WEIGHTS, WeightCriteria
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.proposals.user_given import check_proposal
from unnorm.partition.weight_checks import estimate, weight_findings
from unnorm.statistics.importance_weights import mean_of, pareto_smooth


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


def importance_estimate(
    proposal: Proposal, key: jax.Array, draws: int, spent: dict[str, int]
) -> LogZ:
    """log Z by so many draws from a proposal, after the evaluations `spent`."""
    spent = total_evaluations(spent, {"values": draws, "gradients": 0})
    logs = log_weights(proposal, key, draws)
    return assess_draws(proposal.view.density, logs, spent, WEIGHTS.min_ess_fraction_unbounded)


def assess_draws(
    density: Density,
    log_weights: np.ndarray,
    evaluations: dict[str, int],
    min_ess_fraction: float | None = None,
    criteria: WeightCriteria = WEIGHTS,
) -> LogZ:
    """log Z from the log weights of independent draws of a proposal.

    Args:
        density: for its name and measures.
        log_weights: (N,).
        evaluations: of everything.
        min_ess_fraction: where weights are unbounded (k̂ > 0); None: as elsewhere, because uneven
            weights may yet show mass that chains missed.
        criteria: see `WeightCriteria`.
    """
    smoothed, shape = pareto_smooth(log_weights)
    value, error = mean_of(smoothed)
    unbounded = shape > 0 and min_ess_fraction is not None
    if not unbounded:
        min_ess_fraction = criteria.min_ess_fraction
    findings = weight_findings(
        density, log_weights, shape,
        bounded=False, min_ess_fraction=min_ess_fraction, criteria=criteria,
    )  # fmt: skip
    return estimate(density, "importance_sampling", value, error, evaluations, findings)


def log_weights(proposal: Proposal, key: jax.Array, draws: int) -> np.ndarray:
    """log p̃ − log q at so many draws of q."""
    return np.asarray(_log_weights(proposal, key, draws), float)


@compiled(options=CompilationOptions(quick_elements=0), static_argnames=("draws", "block"))
def _log_weights(proposal: Proposal, key: jax.Array, draws: int, block: int = 1000) -> jax.Array:
    # in blocks: XLA for CPUs (JAX 0.10.2) has summed wrongly over 10,000 draws fused into one
    def one(key):
        position = proposal.draw(key)
        return log_target(proposal.view, position) - proposal.log_prob(position)

    return jax.lax.map(one, key_array(key, draws), batch_size=block)


__all__ = ["ImportanceSampling", "assess_draws", "importance_estimate", "log_weights"]
