"""Convergence checks of the chains behind a stochastic fit, by a run at the fitted parameters."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.chain_kernels import nan_finding
from unnorm.fitting.data.latent_variables import covariates_of
from unnorm.sampling.short_runs import run_rounds
from unnorm.statistics.mcmc import ConvergenceCriteria, split_r_hat


@dataclass(frozen=True)
class ChainCriteria:
    """Length of the run, and its limits."""

    max_chains: int = 200
    max_steps: int = 2_000
    min_rounds: int = 20  # of k steps
    max_rounds: int = 200
    # Of the energies; the run is short, so that R-hat is noisy.
    convergence: ConvergenceCriteria = field(
        default=ConvergenceCriteria(max_r_hat=1.2, error_r_hat=1.5)
    )
    drift: float = 0.5  # standard deviations of the data's energies
    drift_errors: float = 4.0  # Monte Carlo errors

    def thin(self, leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        """Return at most `max_chains` rows, equally spaced."""
        return leaf[:: max(1, len(leaf) // self.max_chains)][: self.max_chains]


def chain_findings(
    objective, density, state, events: dict, key: jax.Array, criteria: ChainCriteria | None = None
) -> list[Finding]:
    """Return warnings where persistent chains do not mix, where energies drift away from the
    data's, and where a proposal was NaN.
    """
    chains, own = state.shared, covariates_of(density, events)
    criteria, target = criteria or ChainCriteria(), Unconstrained(density)
    rows = state.per_row.starts
    if chains.latent is not None:
        latent, hidden = chains.latent, chains.latent.positions
        values = Unconstrained(latent.density(density, events)).events_at(hidden)
        rows, events = latent.complete(rows, hidden), latent.complete(events, values)
    starts = chains.positions if objective.persistent else rows
    starts, own = (jax.tree.map(criteria.thin, part) for part in (starts, own))
    rounds = max(criteria.min_rounds, min(criteria.max_rounds, criteria.max_steps // objective.k))
    run = run_rounds(
        chains.kernel,
        target,
        chains.tuning,
        starts,
        key,
        0.0,
        own,
        rounds=rounds,
        steps=objective.k,
    )
    late = jax.tree.map(lambda leaf: leaf[rounds // 2 :], run.events)
    repeated = {
        name: jnp.broadcast_to(value, (rounds - rounds // 2, *value.shape))
        for name, value in own.items()
    }
    energies = np.asarray(_energies(density, late | repeated)).T
    of_data = np.asarray(_energies(density, jax.tree.map(lambda leaf: leaf[None], events)))[0]
    mixing = energies
    if own:  # rows differ in their energies: each chain is compared with its row and with itself
        energies = energies - criteria.thin(of_data)[:, None]
        of_data = of_data - of_data.mean()
        mixing = energies - energies.mean(1, keepdims=True)
    found = _mixing(mixing, objective.k, criteria) if objective.persistent else []
    found += _drift(energies, of_data, criteria)
    if run.nan_rate > 0:
        found.append(nan_finding(float(run.nan_rate)))
    return found


@compiled
def _energies(density, events: dict) -> jax.Array:
    """log p̃, by round and chain."""
    return jax.vmap(jax.vmap(density.log_density))(events)


def _mixing(energies: np.ndarray, k: int, criteria: ChainCriteria) -> list[Finding]:
    ratio = split_r_hat(energies)
    if ratio <= criteria.convergence.max_r_hat:
        return []
    what = (
        f"the persistent chains do not mix: R-hat of their energies is {ratio:.2f} over "
        f"{energies.shape[1] * k} steps"
    )
    advice = (
        "raise k, use a kernel that mixes faster, or restart a share of the chains "
        "(reinitialise=0.05)"
    )
    severity = WARNING if ratio <= criteria.convergence.error_r_hat else ERROR
    return [Finding(what, advice, severity, code=FindingCode.NOT_MIXED)]


def _drift(energies: np.ndarray, of_data: np.ndarray, criteria: ChainCriteria) -> list[Finding]:
    """At the fixed point negatives have the data's energies; chains that did not move far have
    others after more steps.
    """
    spread, error = of_data.std(), energies.mean(1).std(ddof=1) / np.sqrt(len(energies))
    gap = energies.mean() - of_data.mean()
    if not abs(gap) > max(criteria.drift * spread, criteria.drift_errors * error):
        return []
    what = (
        "from the negatives the chains drift on to a log-density "
        f"{'above' if gap > 0 else 'below'} the data's "
        f"by {abs(gap) / spread if spread else np.inf:.1f} of its standard deviations: the "
        "negatives are not draws"
    )
    advice = "raise k, use a kernel that mixes faster, or persistent=True"
    return [Finding(what, advice, WARNING, code=FindingCode.NOT_MIXED)]


__all__ = ["ChainCriteria", "chain_findings"]
