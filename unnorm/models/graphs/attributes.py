"""Attributes of nodes and of pairs of nodes, as numbers for the terms of a random graph."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from unnorm.core.containers import is_network, is_series, is_xarray
from unnorm.core.messages import choose_from, shown
from unnorm.declaration.labelled_matrices import matrix_in_order, refuse_other_nodes, texts


class Attribute(NamedTuple):
    """What a term needs of an attribute.

    Attributes:
        values: (d,) numbers or codes, (d, levels − 1) indicators, or (d, d).
        levels: the labels of the indicators; None for other terms.
        nodes: the labels of the nodes, in the order of the values; None where there are none.
    """

    values: np.ndarray
    levels: list[str] | None = None
    nodes: tuple[str, ...] | None = None


def read_attributes(
    terms: Mapping[str, tuple[str, str]], attributes: Any, directed: bool
) -> dict[str, Attribute]:
    """What each term needs of its attribute, all with the nodes in one order.

    Args:
        terms: ``{term: (kind, name of the attribute)}``.
        attributes: as in `read_attribute`.
        directed: as in `read_attribute`.
    """
    read: dict[str, Attribute] = {}
    nodes = None
    for term, (kind, name) in terms.items():
        read[term] = read_attribute(term, kind, name, attributes, directed, nodes)
        nodes = read[term].nodes if nodes is None else nodes
    without = [terms[term][1] for term, one in read.items() if one.nodes is None]
    if nodes is not None and without:
        named = next(terms[term][1] for term, one in read.items() if one.nodes is not None)
        raise ValueError(
            f"attributes has labels of nodes for {named!r} and none for {without[0]!r}; must have "
            "them for both or for neither, because nodes are matched by label; give both, or pass "
            "arrays in the order of the data's nodes."
        )
    return read


def read_attribute(
    term: str, kind: str, name: str, attributes: Any, directed: bool, nodes: Any = None
) -> Attribute:
    """The values that a term of this kind needs of the attribute named.

    Args:
        term: the statistic, for messages.
        kind: nodecov, nodematch, nodefactor or edgecov.
        name: of the attribute.
        attributes: a mapping of names to values, or a network.
        directed: whether a matrix of pairs may be asymmetric.
        nodes: their labels, in the order that labelled values are brought to; None: their own.
    """
    values, found = _values(term, name, attributes, kind == "edgecov", nodes)
    wanted = 2 if kind == "edgecov" else 1
    if values.ndim != wanted or (wanted == 2 and len(set(values.shape)) > 1):
        what = "a matrix (d, d)" if wanted == 2 else "one value for each node"
        raise ValueError(
            f"The attribute {name!r} of {term} has the shape {values.shape}; must be {what}, in "
            "the order of the data's nodes; correct it."
        )
    if kind in ("nodematch", "nodefactor"):
        return _by_levels(term, kind, name, values)._replace(nodes=found)
    numbers = _numbers(term, name, values)
    if kind == "edgecov" and not directed and not np.array_equal(numbers, numbers.T):
        raise ValueError(
            f"The attribute {name!r} of {term} is not symmetric; must be, because ties have no "
            "direction; symmetrize it, or pass directed=True."
        )
    return Attribute(numbers, nodes=found)


def _values(
    term: str, name: str, attributes: Any, pairs: bool, nodes: Any
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The values as they are, and the labels of their nodes."""
    if is_network(attributes) and not pairs:
        missing = [node for node, data in attributes.nodes(data=True) if name not in data]
        if missing:
            raise ValueError(
                f"{term} needs the attribute {name!r} of every node, and node {missing[0]!r} has "
                "none; must be set for all; set it by networkx.set_node_attributes."
            )
        return _as_objects([data[name] for _, data in attributes.nodes(data=True)]), texts(
            attributes
        )
    if not isinstance(attributes, Mapping):
        what = "a matrix for each pair" if pairs else "values for each node"
        raise ValueError(
            f"{term} needs the attribute {name!r}, and attributes is {shown(attributes)}; must "
            f"hold {what}; pass attributes={{{name!r}: ...}}."
        )
    if name not in attributes:
        raise ValueError(
            f"{term} needs the attribute {name!r}, which attributes does not have; "
            f"{choose_from(name, attributes) if attributes else 'pass it'}."
        )
    value, what = attributes[name], f"The attribute {name!r}"
    if pairs:
        value, found = matrix_in_order(value, what, ("d", "d"), nodes)
        return _as_objects(value), found
    if isinstance(value, Mapping):
        labels, value = texts(value), list(value.values())
    elif is_series(value):
        labels = texts(value.index)
    elif is_xarray(value) and np.ndim(value) == 1 and value.dims[0] in value.indexes:
        labels = texts(value.indexes[value.dims[0]])
    else:
        return _as_objects(value), None
    nodes = labels if nodes is None else nodes
    refuse_other_nodes(what, labels, nodes)
    return _as_objects(value)[[labels.index(node) for node in nodes]], nodes


def _as_objects(value: Any) -> np.ndarray:
    """An array of the values as they are: NumPy makes a text of a NaN beside names."""
    held = np.asarray(value)
    return held.astype(object) if held.dtype.kind in "fiub" else np.asarray(value, object)


def _numbers(term: str, name: str, values: np.ndarray) -> np.ndarray:
    values = np.array(values.tolist())
    if values.dtype.kind not in "fiub" or not np.all(np.isfinite(values.astype(float))):
        found = f"dtype {values.dtype}" if values.dtype.kind not in "fiub" else "missing values"
        raise ValueError(
            f"The attribute {name!r} of {term} has {found}; must be finite numbers; code or impute "
            "it, or use nodematch or nodefactor for groups."
        )
    return values.astype(float)


def _by_levels(term: str, kind: str, name: str, values: np.ndarray) -> Attribute:
    empty = [one is None or (isinstance(one, float) and math.isnan(one)) for one in values]
    if any(empty):
        raise ValueError(
            f"The attribute {name!r} of {term} is missing at node {empty.index(True)}; must have "
            "a value at every node; set one, such as 'unknown'."
        )
    try:
        levels, codes = np.unique(values, return_inverse=True)
    except TypeError:  # values of several kinds have no order
        levels, codes = np.unique(values.astype(str), return_inverse=True)
    if kind == "nodematch":
        return Attribute(codes.astype(float))
    if len(levels) < 2:
        raise ValueError(
            f"The attribute {name!r} of {term} has the level {levels[0]!s} alone; must have at "
            "least two; leave the term out."
        )
    indicators = codes[:, None] == np.arange(1, len(levels))
    return Attribute(indicators.astype(float), [str(level) for level in levels[1:]])


__all__ = ["Attribute", "read_attributes"]
