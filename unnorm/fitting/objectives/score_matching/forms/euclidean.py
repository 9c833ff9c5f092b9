"""Score matching where there is no boundary, the line and the circle: tr ∇²f + ½ |∇f|², f = log p̃.

References:
    Hyvärinen (2005), JMLR 6, 695-709; Mardia, Kent and Laha (2016), arXiv:1604.08470 (the circle).
"""

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.score_matching.forms.column_scales import nothing as prepare
from unnorm.numerics.hessian_trace import Field
from unnorm.numerics.hessian_trace import terms as terms_along

__all__ = ["prepare", "terms"]


def terms(log_density, value, support, scales, options) -> tuple[jax.Array, jax.Array]:
    """Return (a, r) of tr ∇²f + ½ |∇f|²."""
    field = Field(jnp.eye(value.size, dtype=value.dtype), jnp.zeros(value.size, value.dtype))
    return terms_along(log_density, value, field, options.trace)
