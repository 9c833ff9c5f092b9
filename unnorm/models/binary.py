"""Two-valued graphical models: pairwise interactions on 0/1 and on spins, and one layer of hidden
units.
"""

import jax
import jax.numpy as jnp

from unnorm.declaration.density import density
from unnorm.supports import Binary, Real, Spin, Symmetric

__all__ = [
    "boltzmann_machine",
    "ising",
    "restricted_boltzmann_machine",
    "restricted_boltzmann_machine_marginal",
]


@density
def ising(x: Binary["d"], *, coupling: Symmetric["d"] = 0.0, field: Real["d"] = 0.0) -> jax.Array:
    """Which yes/no answers go together, given all others: the pairwise binary graphical model.

    log p̃(x) = Σ_j field_j x_j + Σ_{j<k} coupling_jk x_j x_k, x in {0, 1}^d; a coupling is a
    conditional log odds ratio, and 0 where two items are independent given the others. Z is a sum
    over 2^d states.

    Example:
        >>> import unnorm as un
        >>> p = un.models.ising.bind(coupling=[[0, 2.0], [2.0, 0]], field=[0.5, -1.0])
        >>> float(p([1, 1]))
        1.5

    References:
        Besag (1974), Journal of the Royal Statistical Society B 36, 192-236,
        doi:10.1111/j.2517-6161.1974.tb00999.x.
    """
    return field @ x + 0.5 * x @ coupling @ x


@density
def boltzmann_machine(
    x: Spin["d"], *, coupling: Symmetric["d"] = 0.0, field: Real["d"] = 0.0
) -> jax.Array:
    """Which units (spins, neurons, votes) pull the same way: pairwise interactions of values -1 and
    1.

    log p̃(x) = Σ_j field_j x_j + Σ_{j<k} coupling_jk x_j x_k, x in {−1, 1}^d: `ising` in other
    coordinates.

    Example:
        >>> import unnorm as un
        >>> p = un.models.boltzmann_machine.bind(coupling=[[0, 2.0], [2.0, 0]], field=[0.5, -1.0])
        >>> float(p([1, -1]))
        -0.5

    References:
        Ackley, Hinton and Sejnowski (1985), Cognitive Science 9, 147-169,
        doi:10.1207/s15516709cog0901_7.
    """
    return field @ x + 0.5 * x @ coupling @ x


@density
def restricted_boltzmann_machine(
    v: Binary["d"],
    h: Binary["k"],
    *,
    weights: Real["k", "d"],
    visible: Real["d"] = 0.0,
    hidden: Real["k"] = 0.0,
) -> jax.Array:
    """Binary patterns explained by binary hidden units, both sampled: the two layers of one
    network.

    log p̃(v, h) = visible'v + hidden'h + h' weights v; given one layer the units of the other are
    independent, so that block Gibbs moves a layer at a time. The weights have no default: at 0 all
    hidden units are alike and stay so.

    Example:
        >>> import unnorm as un
        >>> p = un.models.restricted_boltzmann_machine.bind(weights=[[1.0, 2.0]], hidden=[-0.5])
        >>> float(p([1, 1], [1]))
        2.5

    References:
        Smolensky (1986), Parallel Distributed Processing 1, ch. 6; Hinton (2002),
        doi:10.1162/089976602760128018.
    """
    return visible @ v + hidden @ h + h @ weights @ v


@density
def restricted_boltzmann_machine_marginal(
    v: Binary["d"], *, weights: Real["k", "d"], visible: Real["d"] = 0.0, hidden: Real["k"] = 0.0
) -> jax.Array:
    """Binary patterns by a restricted Boltzmann machine whose hidden units are summed out: what is
    fitted to images.

    log p̃(v) = visible'v + Σ_k log(1 + exp(hidden_k + weights_k'v)); its Z is that of
    `restricted_boltzmann_machine`.

    Example:
        >>> import unnorm as un
        >>> machine = un.models.restricted_boltzmann_machine_marginal
        >>> p = machine.bind(weights=[[1.0, 2.0]], hidden=[-3.0])
        >>> round(float(p([1, 1])), 4)  # log 2
        0.6931

    References:
        Smolensky (1986), Parallel Distributed Processing 1, ch. 6; Hinton (2002),
        doi:10.1162/089976602760128018.
    """
    return visible @ v + jnp.sum(jax.nn.softplus(hidden + weights @ v))
