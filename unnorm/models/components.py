"""Independent components."""

import math

import jax
import jax.numpy as jnp

from unnorm.declaration.density import density
from unnorm.supports import Real

__all__ = ["independent_components"]


@density
def independent_components(x: Real["d"], *, weights: Real["component", "d"]) -> jax.Array:
    """Signals that are mixtures of independent sources with sharp peaks: independent component
    analysis.

    log p̃(x) = −Σ_j log cosh(w_j'x), w_j the rows of `weights`: unnormalized hyperbolic secant
    sources. With as many components as dimensions log Z = d log π − log |det weights|; with more
    (overcomplete) Z has no closed form, and nothing else changes. The rows are known up to their
    order and sign. No default: start from the identity or from a whitening matrix.

    Example:
        >>> import unnorm as un
        >>> p = un.models.independent_components.bind(weights=[[1.0, 0.0], [1.0, 2.0]])
        >>> round(float(p([1.0, -0.5])), 4)  # −log cosh 1
        -0.4338

    References:
        Hyvärinen (2005), Journal of Machine Learning Research 6, 695-709, section 3.
    """
    projected = weights @ x
    return -jnp.sum(jnp.logaddexp(projected, -projected) - math.log(2))
