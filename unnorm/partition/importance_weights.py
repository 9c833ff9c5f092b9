"""Importance weights of draws from a proposal, and log Z from them."""

import jax
import numpy as np

from unnorm.core.compilation.policy import CompilationOptions, compiled
from unnorm.core.random_keys import key_array
from unnorm.declaration.density import Density
from unnorm.partition.annealing.tempered import log_target
from unnorm.partition.base import LogZ, total_evaluations
from unnorm.partition.options import WEIGHTS, WeightCriteria
from unnorm.partition.proposals.base import Proposal
from unnorm.partition.weight_checks import estimate, weight_findings
from unnorm.statistics.importance_weights import mean_of, pareto_smooth


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


def importance_estimate(
    proposal: Proposal, key: jax.Array, draws: int, spent: dict[str, int]
) -> LogZ:
    """log Z by so many draws from a proposal, after the evaluations `spent`."""
    spent = total_evaluations(spent, {"values": draws, "gradients": 0})
    logs = log_weights(proposal, key, draws)
    return assess_draws(proposal.view.density, logs, spent, WEIGHTS.min_ess_fraction_unbounded)
