"""The terms of an exponential random graph: statistics and their changes by a tie.

A change is s(y with the tie ij) − s(y without it), whichever of them y is, found from what
surrounds the two nodes alone (`interactions/ties.py` says what that is). `values` are those that
the term needs: the decay, or an attribute of the nodes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Term(NamedTuple):
    """A statistic and its change by a tie.

    Attributes:
        statistic: of the matrix y (d, d) and the values.
        change: of the pair of nodes and the values.
        ties_interact: whether the change depends on other ties.
        directed: whether it serves directed graphs (True), undirected ones (False) or both (None).
    """

    statistic: Callable[..., Any]
    change: Callable[..., Any]
    ties_interact: bool
    directed: bool | None = False


def _sum_of_ties(y: jax.Array, weights: jax.Array, directed: bool) -> jax.Array:
    """Σ y_ij w_ij over the ties, w (d, d, ...)."""
    total = jnp.tensordot(y, weights, 2)
    return total if directed else total / 2


# -- of degrees and shared partners ----------------------------------------------------------------
def _two_stars(y, _):
    degree = y.sum(0)
    return jnp.sum(degree * (degree - 1)) / 2


def _degree_change(pair, _):
    nodes = jnp.arange(len(pair.common))
    return ((nodes == pair.i) | (nodes == pair.j)).astype(jnp.int32)


def _alternating(count, decay):
    """e^τ (1 − (1 − e^{−τ})^count): each further one adds (1 − e^{−τ}) times as much."""
    return jnp.exp(decay) * (1 - (1 - jnp.exp(-decay)) ** count)


def _powers(pair, decay):
    """(1 − e^{−τ})^m for every count m of nodes, to be looked up: a power takes long."""
    return (1 - jnp.exp(-decay)) ** jnp.arange(len(pair.common))


def _gwdegree_change(pair, decay):
    powers = _powers(pair, decay)
    return powers[pair.degree_i] + powers[pair.degree_j]


def _gwesp_change(pair, decay):
    """The tie's own term, and (1 − e^{−τ})^m of each tie that gets its (m + 1)-th common
    neighbour.
    """
    powers = _powers(pair, decay)
    gained = jnp.sum(pair.common * (powers[pair.partners_i] + powers[pair.partners_j]))
    return jnp.exp(decay) * (1 - powers[pair.common.sum()]) + gained


def edges(directed: bool) -> Term:
    """The number of ties."""
    return Term(lambda y, _: y.sum() / (1 if directed else 2), lambda pair, _: 1, False, None)


TERMS: dict[str, Term] = {
    "triangles": Term(
        lambda y, _: jnp.sum(y * (y @ y)) / 6, lambda pair, _: pair.common.sum(), True
    ),
    "two_stars": Term(_two_stars, lambda pair, _: pair.degree_i + pair.degree_j, True),
    "degree": Term(lambda y, _: y.sum(0), _degree_change, False),
    "gwdegree": Term(
        lambda y, decay: jnp.sum(_alternating(y.sum(0), decay)), _gwdegree_change, True
    ),
    "gwesp": Term(
        lambda y, decay: jnp.sum(y * _alternating(y @ y, decay)) / 2, _gwesp_change, True
    ),
    "mutual": Term(lambda y, _: jnp.sum(y * y.T) / 2, lambda pair, _: pair.reverse, True, True),
    "gwidegree": Term(
        lambda y, decay: jnp.sum(_alternating(y.sum(0), decay)),
        lambda pair, decay: _powers(pair, decay)[pair.in_degree_j], True, True,
    ),
    "gwodegree": Term(
        lambda y, decay: jnp.sum(_alternating(y.sum(1), decay)),
        lambda pair, decay: _powers(pair, decay)[pair.degree_i], True, True,
    ),
}  # fmt: skip


# -- of attributes ---------------------------------------------------------------------------------
def _both_ends(values):
    """x_i + x_j, (d, d, ...)."""
    return values[:, None] + values[None]


def _covariate(directed: bool) -> Term:
    return Term(
        lambda y, x: _sum_of_ties(y, _both_ends(x), directed),
        lambda pair, x: x[pair.i] + x[pair.j], False, None,
    )  # fmt: skip


def _match(directed: bool) -> Term:
    return Term(
        lambda y, x: _sum_of_ties(y, (x[:, None] == x[None]).astype(y.dtype), directed),
        lambda pair, x: (x[pair.i] == x[pair.j]).astype(jnp.int32), False, None,
    )  # fmt: skip


def _pairs(directed: bool) -> Term:
    return Term(
        lambda y, x: _sum_of_ties(y, x, directed), lambda pair, x: x[pair.i, pair.j], False, None
    )


OF_ATTRIBUTES: dict[str, Callable[[bool], Term]] = {
    "nodecov": _covariate,
    "nodefactor": _covariate,  # of the indicators of the levels
    "nodematch": _match,
    "edgecov": _pairs,
}


def split_name(name: str) -> tuple[str, str] | None:
    """The kind of term and the attribute of a name such as nodecov_age; None of other names."""
    kind, _, attribute = name.partition("_")
    return (kind, attribute) if kind in OF_ATTRIBUTES and attribute else None


def term_of(name: str, directed: bool) -> Term:
    """The term of a name that is known."""
    found = split_name(name)
    if found is not None:
        return OF_ATTRIBUTES[found[0]](directed)
    return edges(directed) if name == "edges" else TERMS[name]


__all__ = ["OF_ATTRIBUTES", "TERMS", "Term", "split_name", "term_of"]
