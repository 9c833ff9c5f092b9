"""Exponential random graphs, by the statistics that they are built from."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from unnorm.core.messages import choose_from
from unnorm.declaration.density import Density
from unnorm.models.graph_terms import TERMS, WITH_COVARIATE
from unnorm.supports import Graph, Real

__all__ = ["exponential_random_graph"]

_NAMED = tuple(name for name in TERMS if name not in WITH_COVARIATE)


@dataclass(frozen=True)
class _WeightedStatistics:
    """A graph's statistics, each with its weight; equal for equal names, so that nothing compiles
    twice.

    It declares what a tie changes (`interactions/ties.py` says how).
    """

    terms: tuple[tuple[str, str], ...]  # the parameter and the term of each
    __name__ = "exponential_random_graph"

    def __call__(self, y, **named) -> jax.Array:
        return sum(
            jnp.sum(named[name] * TERMS[term].statistic(y, _given(name, term, named)))
            for name, term in self.terms
        )  # type: ignore[return-value]

    def tie_change(self, pair, **named) -> jax.Array:
        """log p̃(y with the tie) − log p̃(y without), of a pair of nodes."""
        return sum(
            jnp.sum(named[name] * TERMS[term].change(pair, _given(name, term, named)))
            for name, term in self.terms
        )  # type: ignore[return-value]

    @property
    def ties_interact(self) -> bool:
        """Whether a tie's change depends on other ties."""
        return any(TERMS[term].ties_interact for _, term in self.terms)


def _given(name: str, term: str, named) -> jax.Array:
    """The covariate of a term that has one, else the decay."""
    return named[f"{name}_values"] if term in WITH_COVARIATE else named["decay"]


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
        if name not in _NAMED:
            raise ValueError(
                f"statistics has {name!r}, which is no statistic; {choose_from(str(name), _NAMED)}."
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
        _WeightedStatistics(tuple((name, name) for name in names)),
        {"y": Graph["d"]},
        parameters,
        {"decay": float(decay)},
    )
