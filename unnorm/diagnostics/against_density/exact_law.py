"""Draws of few joint states, or of one count, against the probabilities of all of them: nothing is
hidden from that, a state that was never visited and moves that leave the support included.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from unnorm.core.compilation.policy import compiled
from unnorm.core.findings import ERROR, WARNING, Finding, FindingCode
from unnorm.declaration.density import Density, cast
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.diagnostics.against_density.coordinates import flat, positions_of
from unnorm.diagnostics.against_density.stein import make_check
from unnorm.diagnostics.draws import Draws
from unnorm.diagnostics.options import STEIN, SteinCriteria
from unnorm.integration.count_series import SumOutcome, plan_windows, sum_over_count
from unnorm.integration.count_windows import as_events, log_terms, lone_count
from unnorm.integration.states import count_states, states_at


class Law(NamedTuple):
    """All states, their probabilities, and the number of each draw's state."""

    states: Mapping[str, Any]
    probabilities: np.ndarray
    visited: np.ndarray
    description: str


def exact_law_findings(draws: Draws, p: Density, criteria: SteinCriteria = STEIN) -> list[Finding]:
    """Check the shares of the most probable states, and the means of single sites.

    Args:
        draws: inside the support.
        p: the density, its dimensions resolved.
        criteria: limits and budgets.

    Returns:
        A finding where some share or mean is off beyond chance; nothing where a variable is
        continuous or one of several counts, or there are too many states.
    """
    if p.covariates:
        return []
    with jax.enable_x64(True):
        density = cast(p.for_jit(), float)
        law = _law_of_count(density, draws) if lone_count(p) else _law(density, draws, criteria)
    if law is None:
        return []
    states, probabilities, visited, description = law
    labels, table = _features(p, states, probabilities, draws.labels(), criteria)
    exact, seen = probabilities @ table, table[visited]
    spread = np.sqrt(np.maximum(probabilities @ (table - exact) ** 2, 0.0))
    check = make_check(labels, seen - exact, seen - exact, criteria)
    floor = criteria.rare_count / visited.size / check.limit * np.maximum(np.ptp(table, 0), 1e-300)
    floor = np.maximum(floor, spread / np.sqrt(visited.size))  # of independent draws
    error = np.maximum(np.nan_to_num(check.location_error), np.where(spread > 0, floor, np.inf))
    z = np.abs(check.location) / error
    worst = int(np.argmax(z))
    if not z[worst] > check.limit:
        return []
    found = float(seen[..., worst].mean())
    what = (
        f"The draws do not fit {p.name}: {labels[worst]} is {found:.4g} over the draws and "
        f"{exact[worst]:.4g} over {description} ({z[worst]:.1f} standard errors)"
    )
    severity = ERROR if z[worst] > criteria.certain else WARNING
    advice = "check that it is the density that was sampled, or sample longer"
    return [Finding(what, advice, severity, FindingCode.STEIN_MISMATCH)]


def _law(density: Density, draws: Draws, criteria: SteinCriteria) -> Law | None:
    if any(support.states is None for support in density.variables.values()):
        return None
    count = count_states(density)
    if count is None or not 1 < count <= criteria.max_joint_states:
        return None
    states = states_at(density, jnp.arange(count))
    logs = np.asarray(_log_densities(density, states))
    visited = _numbers(density, positions_of(Unconstrained(density), draws.values))
    probabilities = softmax(np.where(np.isnan(logs), -np.inf, logs))
    return Law(states, probabilities, visited, f"all {count:,} states")


def _law_of_count(density: Density, draws: Draws) -> Law | None:
    """The law of one count, where its sum converges over counts that are all evaluated."""
    if sum_over_count(density).outcome != SumOutcome.CONVERGED:
        return None
    windows = plan_windows([density], None, None, 1.0)
    if windows.stride > 1:
        return None
    counts = windows.counts()
    drawn = flat(draws.values[str(lone_count(density))])[..., 0]
    visited = np.minimum(np.searchsorted(counts, drawn), len(counts) - 1)
    return Law(
        as_events(density, counts), softmax(log_terms(density, counts)), visited, "all counts"
    )


@compiled
def _log_densities(density: Density, states: dict[str, jax.Array]) -> jax.Array:
    return jax.vmap(density.log_density)(states)


def _features(
    p: Density,
    states: Mapping[str, Any],
    probabilities: np.ndarray,
    labels: Mapping[str, list[str]],
    criteria: SteinCriteria,
) -> tuple[list[str], np.ndarray]:
    """Names and values at every state (S, K) of what is compared."""
    top = np.argsort(-probabilities, kind="stable")[: criteria.top_states]
    columns = [np.equal(np.arange(len(probabilities)), state) * 1.0 for state in top]
    found = [f"the share of the state of rank {rank + 1}" for rank in range(len(top))]
    if name := lone_count(p):
        counts = np.asarray(states[name], float).ravel()
        found = [f"the share of the count {counts[state]:.0f}" for state in top]
        reached = np.searchsorted(np.cumsum(probabilities), criteria.count_levels)
        bounds = np.unique(counts[np.minimum(reached, len(counts) - 1)])
        columns += [(counts > bound) * 1.0 for bound in bounds]
        found += [f"the share of counts above {bound:.0f}" for bound in bounds]
    for name in p.variables:
        entries = np.asarray(states[name], float).reshape(len(probabilities), -1)
        varied = np.flatnonzero(np.ptp(entries, 0) > 0)[: criteria.max_sites]
        columns += list(entries[:, varied].T)
        own = labels.get(name, [])
        known = len(own) == entries.shape[1]
        found += [f"the mean of {own[k] if known else f'{name}, entry {k},'}" for k in varied]
    return found, np.stack(columns, -1)


def _numbers(p: Density, positions: Mapping[str, np.ndarray]) -> np.ndarray:
    """The number of each draw's joint state, as `states_at` counts them."""
    number = np.zeros((), int)
    for name, support in p.variables.items():
        states = np.asarray(support.states, float)
        order = np.argsort(states)
        sites = flat(positions[name])
        codes = order[np.searchsorted(states[order], sites)]
        for site in range(sites.shape[-1]):
            number = number * len(states) + codes[..., site]
    return number


__all__ = ["exact_law_findings"]
