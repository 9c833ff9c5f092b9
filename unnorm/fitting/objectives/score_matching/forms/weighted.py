"""Generalized score matching at bounds: Σ_j h_j' ∂_j f + h_j (∂_jj f + ½ (∂_j f)²), f = log p̃.

h_j = h(distance to the nearest bound / s_j) vanishes at the bounds, with s_j the column's standard
deviation.

References:
    Hyvärinen (2007), doi:10.1016/j.csda.2006.09.003; Yu, Drton and Shojaie (2019),
    arXiv:1812.10551.
"""

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.score_matching.forms.column_scales import spread as prepare
from unnorm.numerics.hessian_trace import Field
from unnorm.numerics.hessian_trace import terms as terms_along

__all__ = ["prepare", "terms"]


def terms(log_density, value, support, scales, options) -> tuple[jax.Array, jax.Array]:
    """Return (a, r) of the weighted Hessian and gradient."""

    def weights(x):
        return options.weight(support.boundary_distance(x) / scales)

    h, slope = jax.jvp(weights, (value,), (jnp.ones_like(value),))
    field = Field(jnp.diag(jnp.sqrt(h).reshape(-1)), slope.reshape(-1))
    return terms_along(log_density, value, field, options.trace)
