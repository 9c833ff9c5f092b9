"""A model family: counts with many zeros."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

import unnorm as un
from unnorm.models import FAMILIES


@un.density
def zero_inflated_counts(x: un.Count, *, log_rate: un.Real = 0.0, extra_zeros: un.Real = 0.0):
    """Counts with more or fewer zeros than a Poisson distribution has.

    log p̃(x) = log_rate · x − log x! + extra_zeros · 1[x = 0], so that Z = exp(λ) + exp(e) − 1 with
    λ = exp(log_rate) and e = extra_zeros.

    Example:
        >>> float(zero_inflated_counts.bind(log_rate=0.0, extra_zeros=2.0)(0))
        2.0

    References:
        Lambert (1992), doi:10.2307/1269547.
    """
    return log_rate * x - gammaln(x + 1) + extra_zeros * (x == 0)


FAMILIES["zero_inflated_counts"] = zero_inflated_counts


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    data = rng.poisson(2.0, 1000) * (rng.random(1000) < 0.8)
    print(un.fit(zero_inflated_counts, data, seed=0, progress=False).summary())
    p = zero_inflated_counts.bind(log_rate=jnp.log(2.0), extra_zeros=1.0)
    print(un.log_z(p, progress=False).value, np.log(np.exp(2.0) + np.exp(1.0) - 1))
