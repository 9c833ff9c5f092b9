"""Whether the chains behind a stochastic fit may be believed: they run on for a stretch at the
fitted parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.fitting.row_normalizers import covariates_of
from unnorm.sampling.short_runs import run_rounds
from unnorm.statistics.mcmc import ConvergenceCriteria, split_r_hat

_CHAINS, _STEPS = 200, 2_000  # of the stretch, at most
# R-hat of the energies over rounds of k steps: the run is short.
_CRITERIA = ConvergenceCriteria(max_r_hat=1.2, error_r_hat=1.5)
_DRIFT = 0.5  # standard deviations of the data's energies


def health(objective, density, state, events: dict, key: jax.Array) -> list[Finding]:
    """Findings where persistent chains do not mix, where energies drift off the data's, where a
    proposal was NaN.
    """
    shared, own = state.shared, covariates_of(density, events)
    if "latent" in shared:
        hidden = shared["latent"]["positions"]
        events = events | Unconstrained(density).events_at(hidden)
        rows = state.per_row["starts"] | hidden
    else:
        rows = state.per_row["starts"]
    starts = shared["chains"] if objective.persistent else rows
    starts, own = (jax.tree.map(_some, part) for part in (starts, own))
    rounds = max(20, min(200, _STEPS // objective.k))
    run = run_rounds(
        shared["kernel"],
        Unconstrained(density),
        shared["tuning"],
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
    if (
        own
    ):  # every row has energies of its own: each chain is held against its row, and against itself
        energies = energies - _some(of_data)[:, None]
        found = (
            _mixing(energies - energies.mean(1, keepdims=True), objective.k)
            if objective.persistent
            else []
        )
        found += _drift(energies, of_data - of_data.mean())
    else:
        found = _mixing(energies, objective.k) if objective.persistent else []
        found += _drift(energies, of_data)
    if run.nan_rate > 0:
        what = f"the log-density was NaN at {float(run.nan_rate):.1%} of the chains' proposals, which were rejected"
        found.append(
            Finding(
                what,
                "mend the function there (-inf is a wall, NaN is none)",
                ERROR,
                code=FindingCode.NOT_FINITE,
            )
        )
    return found


def _some(leaf):
    return leaf[:: max(1, len(leaf) // _CHAINS)][:_CHAINS]


@jax.jit
def _energies(density, events: dict) -> jax.Array:
    """log p̃, by round and chain."""
    return jax.vmap(jax.vmap(density.log_density))(events)


def _mixing(energies: np.ndarray, k: int) -> list[Finding]:
    ratio = split_r_hat(energies)
    if ratio <= _CRITERIA.max_r_hat:
        return []
    what = f"the persistent chains do not mix: R-hat of their energies is {ratio:.2f} over {energies.shape[1] * k} steps"
    advice = "raise k, use a kernel that mixes faster, or let a share of the chains start anew (reinitialise=0.05)"
    return [
        Finding(what, advice, WARNING if ratio <= _CRITERIA.error_r_hat else ERROR, code=FindingCode.NOT_MIXED)
    ]


def _drift(energies: np.ndarray, of_data: np.ndarray) -> list[Finding]:
    """At the fixed point the negatives have the data's energies; chains that did not come far go on
    to others.
    """
    spread, error = of_data.std(), energies.mean(1).std(ddof=1) / np.sqrt(len(energies))
    gap = energies.mean() - of_data.mean()
    if not abs(gap) > max(_DRIFT * spread, 4 * error):
        return []
    what = (
        "from the negatives the chains drift on to a log-density "
        f"{'above' if gap > 0 else 'below'} the data's "
        f"by {abs(gap) / spread if spread else np.inf:.1f} of its standard deviations: the "
        "negatives are not draws"
    )
    return [
        Finding(
            what,
            "raise k, use a kernel that mixes faster, or persistent=True",
            WARNING,
            code=FindingCode.NOT_MIXED,
        )
    ]


__all__ = ["health"]
