"""Square matrices whose rows and columns carry the same labels: networks, adjacency matrices as
DataFrames or xarray objects. Nodes are matched by label, never by position.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unnorm.core.containers import (
    adjacency_matrix,
    is_frame,
    is_network,
    is_xarray,
    to_numbers,
    transpose_to_axes,
)
from unnorm.core.messages import join_names

Labels = tuple[str, ...]


def is_square(axes: tuple) -> bool:
    """Whether values with these axes are matrices, whose rows and columns are of one dimension."""
    return len(axes) == 2 and axes[0] == axes[1]


def _are_positions(labels: Sequence[str]) -> bool:
    """Whether labels are 0, 1, ..., which say no more than the places do."""
    return list(labels) == [str(i) for i in range(len(labels))]


def matrix_in_order(
    value: Any, name: str, axes: tuple, known: Sequence[str] | None, **reading: Any
) -> tuple[Any, Labels | None]:
    """One matrix, or several in an xarray object, with its nodes in the order of the known labels,
    or in its own; and that order, None where it carries no labels.

    Args:
        value: any container; arrays and others without labels are returned as they are.
        name: what it is called in messages.
        axes: the declared ones.
        known: the labels of the dimension; None: it has none yet.
        reading: of `to_numbers`.
    """
    value = transpose_to_axes(value, name, axes)
    labels = _labels(value)
    if labels is None:
        return value, None
    rows, columns = labels
    order = tuple(known) if known is not None else rows
    for found in (rows, columns):
        refuse_other_nodes(name, found, order)
    at = [[found.index(node) for node in order] for found in (rows, columns)]
    if is_xarray(value):
        return value.isel(dict(zip(value.dims[-2:], at, strict=True))), order
    matrix = adjacency_matrix(value, name) if is_network(value) else None
    matrix = to_numbers(value, name, **reading) if matrix is None else matrix
    return matrix[np.ix_(*at)], order


def matrices_in_order(
    value: Any, name: str, axes: tuple, known: Sequence[str] | None, **reading: Any
) -> tuple[Any, Labels | None]:
    """Rows of matrices: one labelled matrix is one row, and a list has all of its nodes in one
    order.
    """
    if not isinstance(value, list | tuple):
        found, order = matrix_in_order(value, name, axes, known, **reading)
        one = order is not None and np.ndim(found) == 2
        return (np.asarray(found)[None] if one else found), order
    order, matrices = None, []
    for one in value:
        matrix, own = matrix_in_order(one, name, axes, known, **reading)
        matrices.append(matrix)
        known = own if known is None else known
        order = own if order is None else order
    return matrices, order


def refuse_other_nodes(name: str, found: Sequence[str], expected: Sequence[str]) -> None:
    """Refuse labels that are not these, in whatever order."""
    twice = [node for node in dict.fromkeys(found) if found.count(node) > 1]
    if twice:
        raise ValueError(
            f"{name} has the label {twice[0]!r} twice; expected each node once; rename one."
        )
    if set(found) == set(expected):
        return
    strange = [node for node in found if node not in expected]
    absent = [node for node in expected if node not in found]
    differ = " and ".join(
        f"{words} {join_names(nodes)}"
        for words, nodes in (("does not expect", strange), ("lacks", absent))
        if nodes
    )
    raise ValueError(
        f"{name} has different nodes than expected: found {join_names(found)}, expected "
        f"{join_names(expected)} (it {differ}); must have the same nodes, in any order; rename or "
        "add them, or pass arrays, which are matched by position."
    )


def texts(labels: Any) -> Labels:
    """Labels as words, as the dimensions of a density have them."""
    return tuple(str(label) for label in labels)


def _labels(value: Any) -> tuple[Labels, Labels] | None:
    """The labels of rows and of columns; where only one of them has some, they are of both."""
    if is_network(value):
        return texts(value), texts(value)
    if is_frame(value):
        indices = [value.index, value.columns]
    elif is_xarray(value) and np.ndim(value) >= 2:
        indices = [value.indexes.get(dim) for dim in value.dims[-2:]]
    else:
        return None
    rows, columns = (None if index is None else texts(index) for index in indices)
    rows, columns = rows or columns, columns or rows
    if rows is None or columns is None or np.shape(value)[-2] != np.shape(value)[-1]:
        return None  # what reads the value refuses other shapes
    if set(rows) != set(columns):  # 0, 1, ... are what a DataFrame has without labels
        rows, columns = (
            other if _are_positions(own) else own
            for own, other in ((rows, columns), (columns, rows))
        )
    return rows, columns


__all__ = [
    "is_square",
    "matrices_in_order",
    "matrix_in_order",
    "refuse_other_nodes",
    "texts",
]
