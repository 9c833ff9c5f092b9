"""Exponential random graphs, by the statistics that they are built from.

Each term is a statistic of a graph and its change by a tie, s(y with the tie ij) − s(y without it),
whichever of them y is. The change is found from what surrounds the two nodes alone
(`interactions/ties.py` says what that is).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unnorm.core.messages import choose_from
from unnorm.declaration.density import Density
from unnorm.supports import Graph, Real

__all__ = ["exponential_random_graph"]


class _Term(NamedTuple):
    """A statistic and its change by a tie; both also take the decay.

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


_TERMS: dict[str, _Term] = {
    "edges": _Term(lambda y, _: y.sum() / 2, lambda pair, _: 1, False),
    "triangles": _Term(
        lambda y, _: jnp.sum(y * (y @ y)) / 6, lambda pair, _: pair.common.sum(), True
    ),
    "two_stars": _Term(_two_stars, lambda pair, _: pair.degree_i + pair.degree_j, True),
    "degree": _Term(lambda y, _: y.sum(0), _degree_change, False),
    "gwdegree": _Term(
        lambda y, decay: jnp.sum(_alternating(y.sum(0), decay)), _gwdegree_change, True
    ),
    "gwesp": _Term(
        lambda y, decay: jnp.sum(y * _alternating(y @ y, decay)) / 2, _gwesp_change, True
    ),
}


@dataclass(frozen=True)
class _WeightedStatistics:
    """A graph's statistics, each with its weight; equal for equal names, so that nothing compiles
    twice.

    It declares what a tie changes (`interactions/ties.py` says how).
    """

    names: tuple[str, ...]
    __name__ = "exponential_random_graph"

    def __call__(self, y, **named) -> jax.Array:
        return sum(
            jnp.sum(named[name] * _TERMS[name].statistic(y, named["decay"])) for name in self.names
        )  # type: ignore[return-value]

    def tie_change(self, pair, **named) -> jax.Array:
        """log p̃(y with the tie) − log p̃(y without), of a pair of nodes."""
        return sum(
            jnp.sum(named[name] * _TERMS[name].change(pair, named["decay"])) for name in self.names
        )  # type: ignore[return-value]

    @property
    def ties_interact(self) -> bool:
        """Whether a tie's change depends on other ties."""
        return any(_TERMS[name].ties_interact for name in self.names)


def exponential_random_graph(*statistics: str, decay: float = 0.5) -> Density:
    """Why a network has the ties that it has: an exponential random graph on d nodes, from the
    statistics named.

    log p̃(y) = Σ_s θ_s s(y) over symmetric 0/1 matrices y, with a parameter for each statistic, of
    its name:
    "edges" Σ_{i<j} y_ij; "triangles"; "two_stars" Σ_i C(d_i, 2), with d_i the degree of i;
    "degree", a parameter for each node times its degree (the β-model: nodes differ in sociability);
    "gwdegree" e^τ Σ_i (1 − (1 − e^{−τ})^d_i) and "gwesp" e^τ Σ_{i<j} y_ij (1 − (1 − e^{−τ})^m_ij),
    with m_ij the number of common neighbours, and τ the decay: alternating statistics, in which a
    fifth common friend counts for less than the first.

    Args:
        *statistics: names from the list above; none: "edges" and "triangles".
        decay: τ of gwdegree and gwesp, a number above 0; it is fixed, not fitted.

    Returns:
        A Density of `y` (d, d).

    Raises:
        ValueError: a name is not known or stands twice; edges and degree together; a decay that is
            not positive.

    Example:
        >>> import unnorm as un
        >>> p = un.models.exponential_random_graph("edges", "triangles")
        >>> p = p.bind(edges=-1.0, triangles=0.5)
        >>> float(p([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
        -2.5

    References:
        Frank and Strauss (1986), doi:10.1080/01621459.1986.10478342; Hunter and Handcock (2006),
        doi:10.1198/106186006X133069 (alternating statistics); Chatterjee, Diaconis and Sly (2011),
        arXiv:1005.1136 (degrees).
    """
    names = statistics or ("edges", "triangles")
    for name in names:
        if name not in _TERMS:
            raise ValueError(
                f"statistics has {name!r}, which is no statistic; {choose_from(str(name), _TERMS)}."
            )
        if names.count(name) > 1:
            raise ValueError(
                f"statistics has {name!r} twice; expected each at most once; leave one out."
            )
    if {"edges", "degree"} <= set(names):
        raise ValueError(
            "statistics has both 'edges' and 'degree', and the degrees sum to twice the edges; "
            "expected one of them; "
            "leave edges out."
        )
    if not decay > 0:
        raise ValueError(f"decay is {decay!r}; expected a number above 0; pass one.")
    parameters = {name: (Real["d"] if name == "degree" else Real, 0.0) for name in names}
    return Density(
        _WeightedStatistics(names),
        {"y": Graph["d"]},
        parameters,
        {"decay": float(decay)},
    )
