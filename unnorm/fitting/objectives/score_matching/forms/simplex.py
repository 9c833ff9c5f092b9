"""Score matching on the simplex: mass is moved between pairs of parts, with a weight that vanishes
where either is 0.

With f = log p̃, w_j = h(x_j / s_j), s_j the column's standard deviation, and the matrix M = Σ_{i<j}
w_i w_j (e_i − e_j)(e_i − e_j)', it is tr(M ∇²f) + (div M)·∇f + ½ ∇f'M∇f. For h = "linear" and equal
scales M is diag(x) − xx', the inverse metric of the square-root map to the sphere. Zeros are valid
data: the pairs of that part then carry no weight, the others do. The boundary term is p w_j ∂_j f
at x_j = 0: 0 for every density whose f is smooth up to the boundary; where p grows like x_j^(α −
1), 0 for α > 1, with h = "square" for every α > 0.

References:
    Scealy and Wood (2023), arXiv:2012.12461; Yu, Drton and Shojaie (2021), arXiv:2109.04671; Barp,
    Briol, Duncan, Girolami and Mackey (2019), arXiv:1906.08283 (matrix weights).
"""

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.score_matching.forms.column_scales import spread as prepare
from unnorm.numerics.hessian_trace import Field, blocks
from unnorm.numerics.hessian_trace import terms as terms_along

__all__ = ["prepare", "terms"]


def terms(log_density, value, support, scales, options) -> tuple[jax.Array, jax.Array]:
    """Return (a, r) of the weighted Hessian and gradient."""

    def weights(x):
        return options.weight(x / scales)

    w, slope = jax.jvp(weights, (value,), (jnp.ones_like(value),))
    total = w.sum(-1, keepdims=True)
    drift = slope * total - w * slope.sum(-1, keepdims=True)
    return terms_along(
        log_density, value, Field(blocks(_root(w)), drift.reshape(-1)), options.trace
    )


def _root(w: jax.Array) -> jax.Array:
    """(I − qq') diag(√(w Σw)), q = √(w / Σw), for every vector: its rows d_k have Σ_k d_k d_k' = Σw
    diag(w) − ww'.
    """
    total = w.sum(-1, keepdims=True)
    # a vertex has no weight at all: the direction there is 0, and not 0 / 0
    root = jnp.sqrt(w / jnp.where(total > 0, total, 1.0))
    centred = jnp.eye(w.shape[-1], dtype=w.dtype) - root[..., :, None] * root[..., None, :]
    return centred * jnp.sqrt(w * total)[..., None, :]
