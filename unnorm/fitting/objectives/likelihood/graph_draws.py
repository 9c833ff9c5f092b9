"""Graphs whose density declares what a tie changes: their draws are held by their statistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from unnorm.core.compilation.policy import CompilationOptions, compiled
from unnorm.declaration.unconstrained import Unconstrained
from unnorm.interactions.tie_statistics import (
    TieStatistics,
    has_tie_statistics,
    statistics_of,
    tie_design,
    tie_regressions,
)
from unnorm.sampling.short_runs import run_rounds


def form_of(density, events: dict | None = None) -> tuple[Any, Any]:
    """The density and its events as the draws are held: by their statistics where these suffice."""
    if not has_tie_statistics(density):
        return density, events
    seen = None if events is None else _statistics(density, events)
    return TieStatistics(density.free()), seen


_statistics = compiled(statistics_of)


def start_of_ties(density, events: dict) -> Any:
    """The density at the pseudo-likelihood estimate where that is a logistic regression, and
    finite; else as it is.
    """
    if not has_tie_statistics(density):
        return density
    design = jax.tree.map(np.asarray, tie_design(density, events))
    fits = tie_regressions(design, (1, -1))
    if not fits.regular[0]:
        return density
    vector, unravel = ravel_pytree(density.free())
    return density.at(unravel(jnp.asarray(fits.coefficients[0], vector.dtype)))


# A step on a tie is a loop over few nodes: better machine code saves less than it costs.
@compiled(options=CompilationOptions(quick_elements=0), static_argnames=("rounds", "steps"))
def run_tie_rounds(kernel, target, tuning, positions, key, gain, *, rounds, steps) -> Any:
    """As `run_rounds`, of which only the statistics are kept."""
    return run_rounds(
        kernel, target, tuning, positions, key, gain,
        rounds=rounds, steps=steps, observe=_observe_ties,
    )  # fmt: skip


def _observe_ties(target: Unconstrained, positions: Any) -> dict:
    return statistics_of(target.density, target.events_at(positions))
