"""The Ising form of a density of two-state sites on a sparse graph.

log p̃ = const + Σ_i h_i σ_i + Σ_ij J_ij σ_i σ_j with σ = ±1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.interactions.elimination_order import StructureError
from unnorm.interactions.pairwise import sum_of_pairs


class Couplings(NamedTuple):
    """Fields and bonds; sites are in the order of `unnorm.interactions.coloring.discrete_names`.

    Each site has a row of neighbours, padded with `sites`, and of their bonds, padded with `bonds`.
    """

    fields: jax.Array  # (sites,): h
    strengths: jax.Array  # (bonds,): J
    neighbours: jax.Array  # (sites, largest degree): indices of sites
    bonds: jax.Array  # (sites, largest degree): indices of bonds


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


def signs_of(density: Density, position: dict) -> jax.Array:
    """A position as signs (sites,), +1 for the second state of a site; linear, for derivatives."""
    parts = []
    for name in sorted(position):
        low, high = density.variables[name].states
        parts.append((2 * (position[name] - low) / (high - low) - 1).ravel())
    return jnp.concatenate(parts)


def position_of(density: Density, signs: jax.Array, like: dict) -> dict:
    """Signs as a position with the shapes and types of `like`."""
    position, start = {}, 0
    for name in sorted(like):
        shape, states = like[name].shape, density.variables[name].states
        part = signs[start : start + math.prod(shape)].reshape(shape)
        position[name] = jnp.where(part > 0, states[1], states[0]).astype(like[name].dtype)
        start += math.prod(shape)
    return position


def fields_of(states: dict[str, jax.Array]) -> jax.Array:
    """Half the log-odds of every site's second state, from log-probabilities (*shape, 2)."""
    return jnp.concatenate(
        [((logs[..., 1] - logs[..., 0]) / 2).ravel() for _, logs in sorted(states.items())]
    )


def states_of(fields: jax.Array, like: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The log-probabilities with these fields, in the shapes of `like`."""
    signs = jnp.asarray([-1.0, 1.0], fields.dtype)
    cuts = np.cumsum([like[name].size // 2 for name in sorted(like)])[:-1]
    parts = dict(zip(sorted(like), jnp.split(fields, cuts), strict=True))
    return {
        name: jax.nn.log_softmax(parts[name][:, None] * signs).reshape(logs.shape)
        for name, logs in like.items()
    }


__all__ = [
    "Couplings",
    "couplings_of",
    "fields_of",
    "position_of",
    "signs_of",
    "states_of",
]
