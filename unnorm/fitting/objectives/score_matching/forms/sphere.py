"""Score matching on the unit sphere: the Laplace-Beltrami operator of f = log p̃, and half its
squared gradient.

f is given in the coordinates of the space around: with P = I − xx' for x in R^d, tr(P ∇²f) − (d −
1) x·∇f + ½ |P ∇f|².

References:
    Mardia, Kent and Laha (2016), Score matching estimators for directional distributions,
    arXiv:1604.08470.
"""

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.score_matching.forms.column_scales import nothing as prepare
from unnorm.numerics.hessian_trace import Field, blocks
from unnorm.numerics.hessian_trace import terms as terms_along

__all__ = ["prepare", "terms"]


def terms(log_density, value, support, scales, options) -> tuple[jax.Array, jax.Array]:
    """Return (a, r) of the tangential Hessian and gradient."""
    size = value.shape[-1]
    tangent = jnp.eye(size, dtype=value.dtype) - value[..., :, None] * value[..., None, :]
    field = Field(blocks(tangent), (-(size - 1) * value).reshape(-1))
    return terms_along(log_density, value, field, options.trace)
