"""The terms of an exponential random graph: each a statistic of a graph, and its change by a tie.

The change is s(y with the tie ij) − s(y without it), whichever of them y is. It is found from what
surrounds the two nodes alone (`interactions/ties.py` says what that is).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp


class Term(NamedTuple):
    """A statistic and its change by a tie; both also take the decay or the covariate of the term.

    Attributes:
        statistic: of the matrix y (d, d).
        change: of the pair of nodes.
        ties_interact: whether the change depends on other ties.
    """

    statistic: Callable[..., Any]
    change: Callable[..., Any]
    ties_interact: bool


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


def _sum_at_nodes(pair, x):
    return x[pair.i] + x[pair.j]


TERMS: dict[str, Term] = {
    "edges": Term(lambda y, _: y.sum() / 2, lambda pair, _: 1, False),
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
    "nodecov": Term(lambda y, x: y.sum(0) @ x, _sum_at_nodes, False),
    "nodematch": Term(
        lambda y, x: jnp.sum(y * (x[:, None] == x)) / 2,
        lambda pair, x: (x[pair.i] == x[pair.j]).astype(x.dtype),
        False,
    ),
    "nodefactor": Term(lambda y, x: y.sum(0) @ x, _sum_at_nodes, False),
    "edgecov": Term(lambda y, x: jnp.sum(y * x) / 2, lambda pair, x: x[pair.i, pair.j], False),
}

WITH_COVARIATE = ("nodecov", "nodematch", "nodefactor", "edgecov")

__all__ = ["TERMS", "WITH_COVARIATE", "Term"]
