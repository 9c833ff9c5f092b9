"""Exponential random graphs, by the statistics that they are built from."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from unnorm.core.messages import choose_from
from unnorm.declaration.density import Density
from unnorm.supports import Graph, Real

__all__ = ["exponential_random_graph"]


def _edges(y, decay):
    return y.sum() / 2


def _triangles(y, decay):
    return jnp.sum(y * (y @ y)) / 6


def _two_stars(y, decay):
    degree = y.sum(0)
    return jnp.sum(degree * (degree - 1)) / 2


def _degree(y, decay):
    return y.sum(0)


def _alternating(count, decay):
    """e^τ (1 − (1 − e^{−τ})^count): each further one adds (1 − e^{−τ}) times as much."""
    return jnp.exp(decay) * (1 - (1 - jnp.exp(-decay)) ** count)


def _gwdegree(y, decay):
    return jnp.sum(_alternating(y.sum(0), decay))


def _gwesp(y, decay):
    return jnp.sum(y * _alternating(y @ y, decay)) / 2


_STATISTICS: dict[str, Callable] = {
    "edges": _edges,
    "triangles": _triangles,
    "two_stars": _two_stars,
    "degree": _degree,
    "gwdegree": _gwdegree,
    "gwesp": _gwesp,
}


@dataclass(frozen=True)
class _WeightedStatistics:
    """A graph's statistics, each with its weight; equal for equal names, so that nothing compiles
    twice.
    """

    names: tuple[str, ...]
    __name__ = "exponential_random_graph"

    def __call__(self, y, *, decay, **weights) -> jax.Array:
        return sum(jnp.sum(weights[name] * _STATISTICS[name](y, decay)) for name in self.names)  # type: ignore[return-value]


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
        if name not in _STATISTICS:
            raise ValueError(
                f"statistics has {name!r}, which is no statistic; "
                f"{choose_from(str(name), _STATISTICS)}."
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
        raise ValueError(f"decay is {decay!r}; expected a number above 0; pass such a one.")
    parameters = {name: (Real["d"] if name == "degree" else Real, 0.0) for name in names}
    return Density(
        _WeightedStatistics(names), {"y": Graph["d"]}, parameters, {"decay": float(decay)}
    )
