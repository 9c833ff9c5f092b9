"""Moves of whole clusters: neighbours that pull together flip together, so that both phases of a
lattice are visited.

log p̃ = const + Σ_i h_i σ_i + Σ_ij J_ij σ_i σ_j with σ = ±1. A bond is laid between neighbours that
agree with the sign of J with probability 1 − exp(−2 |J|); each cluster of bonds then takes one of
its two states with their probabilities.

References:
    Swendsen and Wang (1987), doi:10.1103/PhysRevLett.58.86; Edwards and Sokal (1988),
    doi:10.1103/PhysRevD.38.2009.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unnorm.declaration.density import Density
from unnorm.interactions.elimination_order import Refused
from unnorm.interactions.pairwise import sum_of_pairs

MOST_NEIGHBOURS = 8  # sparse graphs: where everything hangs together clusters are everything


class Couplings(NamedTuple):
    """Sites in the order of `unnorm.interactions.coloring.discrete_names`; each has its neighbours
    in a row.
    """

    fields: jax.Array  # (sites,): h
    pulls: jax.Array  # (bonds,): J
    neighbours: (
        jax.Array
    )  # (sites, most neighbours), places of sites; of no site where a row is filled up
    bonds: jax.Array  # the same, places of bonds


def couplings_of(density: Density) -> tuple[Couplings | None, dict[str, int]]:
    """The couplings of a density of two-state sites on a sparse graph, None for others, and what
    they cost to find.
    """
    if any(
        support.states is None or len(support.states) != 2 for support in density.variables.values()
    ):
        return None, {"values": 0, "gradients": 0}
    try:
        found = sum_of_pairs(density, neighbours=MOST_NEIGHBOURS)
    except Refused as refused:
        return None, refused.evaluations
    sites, edges = len(found.sites), list(found.pairs)
    quarters = np.array([part[1, 1] for part in found.pairs.values()]) / 4
    fields = np.array([part[1] for part in found.sites]) / 2
    degrees = np.bincount(np.ravel(edges).astype(int), minlength=sites)
    if (
        not edges
        or degrees.max() > MOST_NEIGHBOURS
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


def flipped(
    couplings: Couplings,
    base_fields: jax.Array,
    power,
    signs: jax.Array,
    key: jax.Array,
    kept: jax.Array | None = None,
) -> jax.Array:
    """New signs (sites,), drawn from the old ones: q^(1−λ) p̃^λ stays as it is, q having fields and
    the bonds `kept`.
    """
    lay, choose = jax.random.split(key)
    sites, pulls = (
        len(signs),
        couplings.pulls * (power if kept is None else jnp.where(kept, 1.0, power)),
    )
    fields = base_fields + power * (couplings.fields - base_fields)
    # bond by bond, so that both of its ends see the same; one more for the rows that are filled up
    laid = jax.random.uniform(lay, pulls.shape, pulls.dtype) < -jnp.expm1(-2 * jnp.abs(pulls))
    padded, towards = jnp.append(laid, False), jnp.append(jnp.sign(pulls), 0.0)
    beside = jnp.append(signs, 0.0)[couplings.neighbours]
    bonded = padded[couplings.bonds] & (signs[:, None] * beside * towards[couplings.bonds] > 0)
    labels = _labelled(bonded, couplings.neighbours)
    # the sum of h σ over a cluster: half the gain of its present state over the opposite one
    stays = jax.ops.segment_sum(fields * signs, labels, sites)
    turned = jax.random.uniform(choose, (sites,), pulls.dtype) < jax.nn.sigmoid(-2 * stays)
    return jnp.where(turned[labels], -signs, signs)


def _labelled(bonded: jax.Array, neighbours: jax.Array) -> jax.Array:
    """The first site of each site's cluster, in passes whose number grows with the logarithm of its
    length.

    A site's label is a site of its cluster. In each pass its label's own label falls to the least
    that it sees, its own falls too, and then goes on to its label's.

    References:
        Zhang, Azad and Hu (2020), doi:10.1137/1.9781611976137.5 (FastSV).
    """
    sites = len(bonded)

    def fall(carry):
        labels, _ = carry
        seen = jnp.where(bonded, jnp.append(labels, sites)[neighbours], sites).min(1)
        fallen = jnp.minimum(labels.at[labels].min(seen), seen)
        fallen = fallen[fallen]
        return fallen, jnp.any(fallen != labels)

    return jax.lax.while_loop(lambda carry: carry[1], fall, (jnp.arange(sites), jnp.asarray(True)))[
        0
    ]


def signs_of(density: Density, position: dict) -> jax.Array:
    """A position as signs (sites,), + where a site is in the second of its two states; linear, for
    its derivatives.
    """
    parts = []
    for name in sorted(position):
        low, high = density.variables[name].states
        parts.append((2 * (position[name] - low) / (high - low) - 1).ravel())
    return jnp.concatenate(parts)


def position_of(density: Density, signs: jax.Array, like: dict) -> dict:
    """Signs as a position of the shapes and types of another."""
    position, start = {}, 0
    for name in sorted(like):
        shape, states = like[name].shape, density.variables[name].states
        part = signs[start : start + math.prod(shape)].reshape(shape)
        position[name] = jnp.where(part > 0, states[1], states[0]).astype(like[name].dtype)
        start += math.prod(shape)
    return position


def fields_of(states: dict[str, jax.Array]) -> jax.Array:
    """Half the log-odds of the second state of every site, from log-probabilities (*shape, 2) by
    variable.
    """
    return jnp.concatenate(
        [((logs[..., 1] - logs[..., 0]) / 2).ravel() for _, logs in sorted(states.items())]
    )


def states_of(fields: jax.Array, like: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Log-probabilities like those given that have such fields."""
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
    "flipped",
    "position_of",
    "signs_of",
    "states_of",
]
