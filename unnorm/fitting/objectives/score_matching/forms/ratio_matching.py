"""Ratio matching of entries with finitely many states: ½ Σ_j Σ_s (1[x_j = s] − p(s | x_−j))².

For two states this is Hyvärinen's Σ_j (1 − p(x_j | x_−j))². It is Brier's score of every
conditional, a proper one, so that the population minimum is the density; and bounded, so that
states which were not observed do no harm.

References:
    Hyvärinen (2007), doi:10.1016/j.csda.2006.09.003; Lyu (2009), arXiv:1205.2629 (marginalization,
    many states).
"""

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.score_matching.forms.column_scales import nothing as prepare
from unnorm.interactions.conditionals import log_odds_of

__all__ = ["prepare", "squared_error", "terms"]


def terms(log_density, value, support, scales, options) -> tuple[jax.Array, jax.Array]:
    """Return the loss of one row, with an empty r."""
    return squared_error(log_odds_of(log_density, value, support)), jnp.zeros(0, value.dtype)


def squared_error(odds: jax.Array) -> jax.Array:
    """The loss, from the log-odds of the other states of every entry, (entries, states − 1)."""
    others = jax.nn.softmax(jnp.pad(odds, ((0, 0), (1, 0))), axis=1)[
        :, 1:
    ]  # p(s | x_−j), the own state's odds being 0
    return 0.5 * jnp.sum(others.sum(1) ** 2 + jnp.sum(others**2, 1))
