"""The Ising form of a density of two-state sites on a sparse graph.

log p̃ = const + Σ_i h_i σ_i + Σ_ij J_ij σ_i σ_j with σ = ±1.
"""

import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.interactions.couplings import Couplings
from unnorm.interactions.elimination_order import StructureError
from unnorm.interactions.pairwise import sum_of_pairs


def couplings_of(density: Density, max_degree: int = 8) -> tuple[Couplings | None, dict[str, int]]:
    """The couplings of a density of two-state sites on a sparse graph, and the evaluations spent.

    None for other densities, and if a site has more than `max_degree` neighbours: on dense graphs
    clusters hold nearly all sites.
    """
    if any(
        support.states is None or len(support.states) != 2 for support in density.variables.values()
    ):
        return None, {"values": 0, "gradients": 0}
    try:
        found = sum_of_pairs(density, max_degree=max_degree)
    except StructureError as refused:
        return None, refused.evaluations
    sites, edges = len(found.sites), list(found.pairs)
    quarters = np.array([part[1, 1] for part in found.pairs.values()]) / 4
    fields = np.array([part[1] for part in found.sites]) / 2
    degrees = np.bincount(np.ravel(edges).astype(int), minlength=sites)
    if (
        not edges
        or degrees.max() > max_degree
        or not (np.isfinite(quarters).all() and np.isfinite(fields).all())
    ):
        return None, found.evaluations
    table, filled = (sites, degrees.max()), np.zeros(sites, int)
    neighbours, bonds = np.full(table, sites), np.full(table, len(edges))
    for bond, (i, j) in enumerate(edges):
        for here, there in ((i, j), (j, i)):
            neighbours[here, filled[here]], bonds[here, filled[here]] = there, bond
            fields[here] += quarters[bond]
            filled[here] += 1
    dtype = jnp.result_type(float)
    arrays = (
        jnp.asarray(fields, dtype),
        jnp.asarray(quarters, dtype),
        jnp.asarray(neighbours),
        jnp.asarray(bonds),
    )
    return Couplings(*arrays), found.evaluations


__all__ = ["couplings_of"]
