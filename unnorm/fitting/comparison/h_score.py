"""The H-score of held-out rows: score matching's loss, with one weight function for all fits."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, NOTE, WARNING, Finding
from unnorm.core.method import registry_name
from unnorm.core.random_keys import make_key
from unnorm.declaration.density import cast
from unnorm.fitting.data.latent_variables import latent_variables
from unnorm.fitting.objectives.registry import ScoreMatching
from unnorm.fitting.results.fit import Fit


def describe_variables(p) -> str:
    """Each variable and covariate with its support."""
    return ", ".join(
        f"{name}: {support!r}" for name, support in (p.variables | p.covariates).items()
    )


def held_out_h_scores(
    fits: Mapping[str, Fit], read: dict, findings: list[Finding]
) -> dict[str, np.ndarray]:
    """The H-score of every row, by fit; none, and a note, where score matching has another meaning
    or no form.
    """
    weights = {fit._origin.problem.objective.h for fit in fits.values() if _by_score_matching(fit)}
    objective = ScoreMatching(h=weights.pop()) if len(weights) == 1 else ScoreMatching()
    p, events = next(iter(read.values()))
    refusal = objective.refuse(p)
    if any(support.discrete for support in p.variables.values()):
        refusal = f"{describe_variables(p)} is discrete"
    elif latent_variables(p.variables, events):
        refusal = f"{latent_variables(p.variables, events)[0]} is latent, or missing in some rows"
    if refusal is None and len(next(iter(events.values()))) < 2:
        refusal = "one row tells no spread"
    if refusal is not None:
        findings.append(
            Finding(f"there is no H-score: {refusal}", "read the log-likelihoods", NOTE)
        )
        return {}
    with jax.enable_x64(True):
        rows = cast(events, jnp.float64)
        state = objective.prepare(cast(p.for_jit(), jnp.float64), rows, make_key(0))
        found = {}
        for name, (p, _) in read.items():
            density = cast(p.for_jit(), jnp.float64)
            violated = [f for f in objective.findings(density, state, rows) if f.severity == ERROR]
            if violated:
                findings.append(_no_h_score(name, violated[0]))
            else:
                found[name] = np.asarray(_h_score(objective, density, state, rows))
        return found


def _no_h_score(name: str, violated: Finding) -> Finding:
    what = f"{name!r} has no H-score: {violated.what}"
    return Finding(what, "compare it by its log-likelihood", WARNING, violated.code)


def _by_score_matching(fit: Fit) -> bool:
    return fit._origin is not None and (
        registry_name(type(fit._origin.problem.objective)) == "score_matching"
    )


@compiled
def _h_score(objective, density, state, events) -> jax.Array:
    return objective.losses(density, state, events)
