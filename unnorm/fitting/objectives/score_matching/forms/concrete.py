"""Concrete score matching: Σ_j Σ_s ½ r² − 1/r with r = p̃(x with x_j = s) / p̃(x), s the other
states of the entry.

Up to a constant it is ½ E‖c_θ(x) − c_p(x)‖² for the concrete score c(x)_y = p(y)/p(x) − 1 over the
neighbours y of x. It has no lower bound where a neighbour of an observed state is never observed:
then 1/r can grow at no cost.

References:
    Meng, Choi, Song and Ermon (2022), arXiv:2211.00802.
"""

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.score_matching.forms.column_scales import nothing as prepare
from unnorm.interactions.conditionals import log_odds_of

__all__ = ["prepare", "terms"]


def terms(log_density, value, support, scales, options) -> tuple[jax.Array, jax.Array]:
    """Return the loss of one row, with an empty r."""
    odds = log_odds_of(log_density, value, support)
    return jnp.sum(0.5 * jnp.exp(2 * odds) - jnp.exp(-odds)), jnp.zeros(0, value.dtype)
