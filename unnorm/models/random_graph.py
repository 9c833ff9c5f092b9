"""Exponential random graphs, by the statistics that they are built from."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from unnorm.core.messages import choose_from
from unnorm.declaration.density import Density
from unnorm.models.graphs.attributes import Attribute, read_attributes
from unnorm.models.graphs.terms import OF_ATTRIBUTES, TERMS, split_name, term_of
from unnorm.supports import Graph, Real

__all__ = ["exponential_random_graph"]


@dataclass(frozen=True)
class _WeightedStatistics:
    """A graph's statistics, each with its weight; equal for equal names, so that nothing compiles
    twice.

    It declares what a tie changes (`interactions/ties.py` says how).
    """

    names: tuple[str, ...]
    directed: bool = False
    __name__ = "exponential_random_graph"

    def __call__(self, y, **named) -> jax.Array:
        return sum(
            jnp.sum(named[name] * self._term(name).statistic(y, _values(name, named)))
            for name in self.names
        )  # type: ignore[return-value]

    def tie_change(self, pair, **named) -> jax.Array:
        """log p̃(y with the tie) − log p̃(y without), of a pair of nodes."""
        return sum(
            jnp.sum(named[name] * self._term(name).change(pair, _values(name, named)))
            for name in self.names
        )  # type: ignore[return-value]

    @property
    def ties_interact(self) -> bool:
        """Whether a tie's change depends on other ties."""
        return any(self._term(name).ties_interact for name in self.names)

    def _term(self, name: str) -> Any:
        return term_of(name, self.directed)


def _values(name: str, named: dict[str, Any]) -> Any:
    """The constant that a term needs: the decay, or the values of its attribute."""
    return named.get(_constant(name), named["decay"])


def _constant(name: str) -> str:
    return f"{name}_values"


def exponential_random_graph(
    *statistics: str, decay: float = 0.5, directed: bool = False, attributes: Any = None
) -> Density:
    """Why a network has the ties that it has: an exponential random graph on d nodes, from the
    statistics named.

    log p̃(y) = Σ_s θ_s s(y) over symmetric 0/1 matrices y, with a parameter for each statistic, of
    its name:
    "edges" Σ_{i<j} y_ij; "triangles"; "two_stars" Σ_i C(d_i, 2), with d_i the degree of i;
    "degree", a parameter for each node times its degree (the β-model: nodes differ in sociability);
    "gwdegree" e^τ Σ_i (1 − (1 − e^{−τ})^d_i) and "gwesp" e^τ Σ_{i<j} y_ij (1 − (1 − e^{−τ})^m_ij),
    with m_ij the number of common neighbours, and τ the decay: alternating statistics, in which a
    fifth common friend counts for less than the first.

    Of an attribute x of the nodes, called "age" say: "nodecov_age" Σ y_ij (x_i + x_j);
    "nodefactor_age", a parameter for each level but the first, times how often it stands at an end
    of a tie; "nodematch_age" Σ y_ij 1(x_i = x_j); of a matrix w of pairs, "edgecov_w" Σ y_ij w_ij.

    With `directed`, y_ij is a tie from i to j, and the sums are over i ≠ j. Then there are "edges",
    the terms of attributes, "mutual" Σ_{i<j} y_ij y_ji, and "gwidegree" and "gwodegree", which are
    gwdegree of the in- and of the out-degrees.

    Args:
        *statistics: names from the lists above; none: "edges" and "triangles", directed "edges" and
            "mutual".
        decay: τ of gwdegree, gwesp, gwidegree and gwodegree, a number above 0; it is fixed, not
            fitted.
        directed: whether ties have a direction.
        attributes: ``{name: values}``, a value for each node, or a matrix (d, d) for edgecov; or a
            networkx graph, whose nodes have the attributes. Values with labels (a graph's, a dict
            by node, pandas, xarray) are matched to the nodes of labelled data (networkx graphs,
            DataFrames) by label; plain arrays are in the order of the data's nodes.

    Returns:
        A Density of `y` (d, d).

    Raises:
        ValueError: a name is not known, stands twice, or is of the other kind of graph; edges and
            degree together; a decay that is not positive; an attribute that is missing, or has
            another length or kind, or labels of other nodes, or labels where another has none.

    Example:
        >>> import unnorm as un
        >>> p = un.models.exponential_random_graph("edges", "triangles")
        >>> p = p.bind(edges=-1.0, triangles=0.5)
        >>> float(p([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
        -2.5
        >>> p = un.models.exponential_random_graph(
        ...     "edges", "nodematch_club", attributes={"club": ["a", "a", "b"]}
        ... )
        >>> float(p.bind(edges=-1.0, nodematch_club=0.5)([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
        -2.5

    References:
        Frank and Strauss (1986), doi:10.1080/01621459.1986.10478342; Hunter and Handcock (2006),
        doi:10.1198/106186006X133069 (alternating statistics); Chatterjee, Diaconis and Sly (2011),
        arXiv:1005.1136 (degrees); Morris, Handcock and Hunter (2008), doi:10.18637/jss.v024.i04
        (terms of attributes and of directed graphs).
    """
    names = statistics or ("edges", "mutual" if directed else "triangles")
    _check(names, directed)
    if not decay > 0:
        raise ValueError(f"decay is {decay!r}; it must be positive; pass, for example, decay=0.5.")
    terms = {name: found for name in names if (found := split_name(name)) is not None}
    read = read_attributes(terms, attributes, directed)
    _check_sizes(read)
    parameters: dict[str, Any] = {name: (_support(name, read.get(name)), 0.0) for name in names}
    constants = {_constant(name): one.values for name, one in read.items()}
    density = Density(
        _WeightedStatistics(tuple(names), directed),
        {"y": Graph(directed=True)["d"] if directed else Graph["d"]},
        parameters,
        {"decay": float(decay), **constants},
    )
    return density.with_dimensions(**_dimensions(read))


def _support(name: str, attribute: Attribute | None) -> Any:
    """Of a parameter: a number, or one for each node or level."""
    if name == "degree":
        return Real["d"]
    return Real[f"{name}_level"] if attribute is not None and attribute.levels else Real


def _dimensions(read: dict[str, Attribute]) -> dict[str, Any]:
    """The number of nodes, or their labels, and the levels of factors."""
    if not read:
        return {}
    first = next(iter(read.values()))
    size = len(first.values) if first.nodes is None else first.nodes
    levels = {f"{name}_level": one.levels for name, one in read.items() if one.levels}
    return {"d": size, **levels}


def _check_sizes(read: dict[str, Attribute]) -> None:
    sizes = {name: len(one.values) for name, one in read.items()}
    if len(set(sizes.values())) > 1:
        (one, first), (other, second) = next(iter(sizes.items())), list(sizes.items())[-1]
        raise ValueError(
            f"attributes has {first} values for {one} and {second} for {other}; must have one for "
            "each node; correct the lengths."
        )


def _serves(name: str, directed: bool) -> bool:
    return term_of(name, directed).directed in (None, directed)


def _check(names: tuple[str, ...], directed: bool) -> None:
    ours = ("edges", *TERMS)
    known = [name for name in ours if _serves(name, directed)]
    for name in names:
        if name in ours or split_name(str(name)) is not None:
            if not _serves(name, directed):
                graphs = "directed" if directed else "undirected"
                raise ValueError(
                    f"statistics has {name!r}, which is not defined for {graphs} graphs; must be "
                    f"among {', '.join(known)} and the terms of attributes; "
                    f"{'leave directed out' if directed else 'pass directed=True'}."
                )
        elif name in OF_ATTRIBUTES:
            raise ValueError(
                f"statistics has {name!r} without an attribute; must name one; write for example "
                f"'{name}_age', with attributes={{'age': ...}}."
            )
        else:
            raise ValueError(
                f"statistics has {name!r}, which is no statistic; {choose_from(str(name), known)}."
            )
        if names.count(name) > 1:
            raise ValueError(
                f"statistics has {name!r} twice; expected each statistic at most once; leave one "
                "out."
            )
    if {"edges", "degree"} <= set(names):
        raise ValueError(
            "statistics has both 'edges' and 'degree', and the degrees sum to twice the edges; "
            "expected only one of them; leave edges out."
        )
