"""Counts that are more or less spread than a Poisson's, alone and together."""

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from unnorm.declaration.density import density
from unnorm.supports import Count, Positive, Real, Symmetric

__all__ = ["conway_maxwell_poisson", "multivariate_conway_maxwell_poisson"]


@density
def conway_maxwell_poisson(x: Count, *, log_rate: Real = 0.0, nu: Positive = 1.0) -> jax.Array:
    """Counts that are over- or underdispersed: the Conway-Maxwell-Poisson distribution.

    log p̃(x) = log_rate · x − nu · log x!; nu = 1 is the Poisson, below 1 it is overdispersed,
    above 1 underdispersed.

    Example:
        >>> import unnorm as un
        >>> p = un.models.conway_maxwell_poisson.bind(log_rate=1.0, nu=0.5)
        >>> round(float(p(2)), 4)
        1.6534

    References:
        Shmueli et al. (2005), Applied Statistics 54, 127-142, doi:10.1111/j.1467-9876.2005.00474.x.
    """
    return log_rate * x - nu * gammaln(x + 1)


@density
def multivariate_conway_maxwell_poisson(
    x: Count["d"],
    *,
    log_rate: Real["d"] = 0.0,
    nu: Positive["d"] = 1.0,
    coupling: Symmetric["d"] = 0.0,
) -> jax.Array:
    """Counts that go together or apart, each with its own dispersion: a graphical model with such
    margins.

    log p̃(x) = Σ_j (log_rate_j x_j − nu_j log x_j!) + Σ_{j<k} coupling_jk √(x_j x_k). The root is
    what makes Z finite for couplings of either sign: the product x_j x_k in its place (Besag's
    auto-Poisson) allows negative ones only. Without couplings the counts are independent and
    Conway-Maxwell-Poisson.

    Example:
        >>> import unnorm as un
        >>> p = un.models.multivariate_conway_maxwell_poisson.bind(coupling=[[0, 0.5], [0.5, 0]])
        >>> float(p([1, 1]))
        0.5

    References:
        Inouye, Ravikumar and Dhillon (2016), Square root graphical models, arXiv:1603.03629 (nu =
        1); Shmueli et al. (2005), doi:10.1111/j.1467-9876.2005.00474.x (nu).
    """
    root = jnp.sqrt(x)
    return log_rate @ x - nu @ gammaln(x + 1) + 0.5 * root @ coupling @ root
