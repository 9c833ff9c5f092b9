"""Categories that interact in pairs."""

import jax.numpy as jnp

from unnorm.declaration.density import Density
from unnorm.supports import Categorical, Real, Symmetric

__all__ = ["potts"]


def potts(k: int = 3) -> Density:
    """Which sites tend to be of one category: the Potts model of k categories.

    log p̃(x) = Σ_{j<l} coupling_jl [x_j = x_l] + Σ_j field_j[x_j], x in {0, …, k − 1}^d. The field
    of category 0 is 0, for only differences count: `field` has k − 1 columns, of categories 1 to k
    − 1.

    Args:
        k: the number of categories, at least 2.

    Returns:
        A Density of `x` (d,) with the parameters `coupling` (d, d), zero on its diagonal, and
        `field` (d, k − 1).

    Raises:
        ValueError: k is not an integer of at least 2.

    Example:
        >>> import unnorm as un
        >>> coupling, field = [[0, 2.0], [2.0, 0]], [[0.5, -1.0], [0.0, 0.25]]
        >>> p = un.models.potts(3).bind(coupling=coupling, field=field)
        >>> float(p([2, 2]))
        1.25

    References:
        Potts (1952), Proceedings of the Cambridge Philosophical Society 48, 106-109,
        doi:10.1017/S0305004100027419.
    """
    support = Categorical(k)["d"]
    return Density(
        _potts,
        {"x": support},
        {"coupling": (Symmetric["d"], 0.0), "field": (Real["d", k - 1], 0.0)},
    )


def _potts(x, *, coupling, field):
    """Categories that interact in pairs: 1 where two sites agree (x is one-hot)."""
    return jnp.sum(field * x[:, 1:]) + 0.5 * jnp.sum(coupling * (x @ x.T))


_potts.__name__ = "potts"
