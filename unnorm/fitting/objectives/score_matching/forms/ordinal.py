"""Score matching of counts: Σ_j t(r_j(y))² + t(r_j(y − e_j))² − 2 t(r_j(y)) with t(u) = 1/(1 + u).

r_j(y) = p̃(y + e_j)/p̃(y). There is no y − e_j term where y_j = 0. The loss is bounded, and its
population minimum is the density: it is up to a constant the expected squared distance between the
two densities' t(r_j).

References:
    Xu, Scealy, Wood and Zou (2022), Generalized score matching for regression, arXiv:2203.09864.
"""

import jax
import jax.numpy as jnp

from unnorm.fitting.objectives.score_matching.forms.column_scales import nothing as prepare

__all__ = ["prepare", "terms"]


def terms(log_density, value, support, scales, options) -> tuple[jax.Array, jax.Array]:
    """Return the loss of one row, with an empty r."""
    here, steps = (
        log_density(value),
        jnp.eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape),
    )

    def one(step):
        below = jnp.sum(step * value) > 0
        ahead = jax.nn.sigmoid(here - log_density(value + step))
        behind = jax.nn.sigmoid(log_density(jnp.where(below, value - step, value)) - here)
        return ahead**2 - 2 * ahead + jnp.where(below, behind**2, 0.0)

    return jnp.sum(jax.vmap(one)(steps)), jnp.zeros(0, value.dtype)
