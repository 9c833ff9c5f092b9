"""Numbers out of the containers that users hold them in; what a container carries is used or
refused, never dropped.
"""

import math
import numbers
import os
import re
from typing import Any

import numpy as np

from unnorm.core.messages import row_text

LEADING = ("chain", "draw")  # dimensions of draws, which come before those of an event


def is_frame(value: Any) -> bool:
    """Whether the value is a DataFrame, of pandas or alike."""
    return hasattr(value, "iloc") and hasattr(value, "columns")


def is_series(value: Any) -> bool:
    """Whether the value is a Series, of pandas or alike."""
    return hasattr(value, "iloc") and hasattr(value, "index") and not hasattr(value, "columns")


def is_xarray(value: Any) -> bool:
    """Whether the value is an xarray.DataArray, or a variable of one."""
    return (
        hasattr(value, "dims") and hasattr(value, "transpose") and not hasattr(value, "data_vars")
    )


def is_network(value: Any) -> bool:
    """Whether the value is a graph, of networkx or alike."""
    return callable(getattr(value, "adjacency", None)) and hasattr(value, "is_multigraph")


def adjacency_matrix(graph: Any, name: str, nodes: list | None = None) -> np.ndarray:
    """The matrix of a network's ties, 0 or 1, in the order of its nodes or of these.

    A tie is there or not: weights other than 1 are refused, and other attributes of edges are not
    read.
    """
    nodes = list(graph) if nodes is None else nodes
    if len(nodes) != len(graph) or set(nodes) != set(graph):
        raise ValueError(
            f"{name} holds networks with different nodes; expected the same nodes in each; add "
            "the missing ones by add_nodes_from."
        )
    place, matrix = {node: i for i, node in enumerate(nodes)}, np.zeros((len(nodes),) * 2)
    for node, neighbours in graph.adjacency():
        for other, edges in neighbours.items():
            if graph.is_multigraph() and len(edges) > 1:
                raise ValueError(
                    f"{name} is a multigraph with {len(edges)} edges from {node!r} to {other!r}; "
                    "expected at most one; convert it by networkx.Graph(...)."
                )
            weight = _weight_of(edges, graph.is_multigraph())
            if weight != 1:
                raise ValueError(
                    f"{name} has the weight {_short(weight)} on the edge from {node!r} to "
                    f"{other!r}; must be a network without weights, because a tie is there or not; "
                    "pass networkx.to_numpy_array(graph, weight=None) for the ties alone, or "
                    "networkx.to_numpy_array(graph) for the weights."
                )
            matrix[place[node], place[other]] = 1
    return matrix


def _weight_of(edges: Any, multiple: bool) -> Any:
    """The weight of an edge, 1 where it has none."""
    attributes = next(iter(edges.values()), {}) if multiple else edges
    return attributes.get("weight", 1) if hasattr(attributes, "get") else 1


def without_networks(value: Any, name: str) -> Any:
    """A network as its matrix, and a list of networks as theirs; anything else as it is."""
    if is_network(value):
        return adjacency_matrix(value, name)
    if isinstance(value, list | tuple) and value and all(map(is_network, value)):
        nodes = list(value[0])
        return np.stack([adjacency_matrix(one, name, nodes) for one in value])
    return value


def to_numbers(
    value: Any,
    name: str,
    categories: int | None = None,
    allow_complex: bool = False,
    missing: bool = False,
) -> np.ndarray:
    """Return the value as one array of booleans, whole or floating numbers.

    Args:
        value: an array, list, number, pandas, xarray, networkx or any object that NumPy reads.
        name: what it is called in messages.
        categories: how many categories a column of names may have, whose codes are then its
            numbers; None: names are refused.
        allow_complex: whether complex numbers are numbers here.
        missing: whether masked and missing values become NaN; they are refused otherwise.

    Raises:
        ValueError: masked or missing values, no numbers, rows of different lengths, integers
            that no float64 is.
    """
    value = without_networks(value, name)
    if is_frame(value):
        array = _of_frame(value, name, categories, missing)
    elif is_series(value):
        array = _of_series(value, name, "", categories, missing)
    else:
        array = _of_array(value, name, missing)
    if array.dtype.kind == "O":
        array = _of_objects(array, name, missing)
    if array.dtype.kind == "V" and np.can_cast(array.dtype, np.float32):  # bfloat16 and its like
        array = array.astype(np.float32)
    if array.dtype.kind == "c" and not allow_complex:
        raise ValueError(
            f"{name} holds complex numbers; expected real ones; pass the real part, or two "
            "variables."
        )
    if array.dtype.kind not in "fiubc":
        raise ValueError(
            f"{name} has dtype {array.dtype}; expected numbers; code it as numbers first."
        )
    _refuse_inexact(array, name)
    return (
        array.astype(np.float64) if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array
    )


def transpose_to_axes(value: Any, name: str, axes: tuple) -> Any:
    """An xarray object with its dimensions in the declared order, matched by name; those of rows or
    draws come first.

    Dimensions that were named by a program (dim_0, x_dim_1) are in the order of the array. A second
    axis of the dimension d is d_2.
    """
    if not is_xarray(value) or not axes:
        return value
    dims = list(value.dims)
    wanted = [
        f"{axis}_2" if axis in axes[:i] else axis
        for i, axis in enumerate(axes)
        if isinstance(axis, str)
    ]
    free = [dim for dim in dims if dim not in wanted and dim not in LEADING]
    missing = [axis for axis in wanted if axis not in dims]
    if (
        len(dims) == 1
        or not wanted
        or (all(re.search(r"(^|_)dim_\d+$", str(dim)) for dim in free) and missing)
    ):
        return value
    if missing and (len(missing) > 1 or len(free) > 1):
        raise ValueError(
            f"{name} has the dimensions {', '.join(map(str, dims))}; expected {missing[0]!r} "
            "among them, because dimensions are matched by name; rename one, for example by "
            f".rename({{{dims[-1]!r}: {missing[0]!r}}})."
        )
    wanted = [free[0] if axis in missing else axis for axis in wanted]
    others = [dim for dim in dims if dim not in wanted]
    count = len(dims) - len(axes)  # of rows or draws
    named, unnamed = iter(wanted), iter(others[max(count, 0) :])
    inner = [next(named, None) if isinstance(axis, str) else next(unnamed, None) for axis in axes]
    order = [*others[: max(count, 0)], *inner]
    return value.transpose(*order) if sorted(map(str, order)) == sorted(map(str, dims)) else value


def axis_labels(value: Any, axis: int) -> list[str] | None:
    """The labels that a container carries along an axis, where they are names and not numbers, and
    the nodes of a network; else None.
    """
    if is_network(value):
        return [str(node) for node in value]
    if is_xarray(value):
        found = value.indexes.get(value.dims[axis]) if axis < len(value.dims) else None
    elif is_frame(value):
        found = (value.index, value.columns)[axis] if axis < 2 else None
    else:
        found = value.index if is_series(value) and axis == 0 else None
    return None if found is None or found.dtype.kind in "iufM" else [str(label) for label in found]


def stack_entries(value: Any) -> Any:
    """A list as one array, whose masks are kept where its entries have some; anything else as it
    is.
    """
    if not isinstance(value, list | tuple):
        return value
    if any(isinstance(one, np.ma.MaskedArray) for one in value):
        return np.ma.stack([np.ma.asarray(one) for one in value])
    return np.asarray(value)


def is_finite_number(value: Any) -> bool:
    """Whether the value is one real number, neither NaN nor infinite nor beyond float64."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def refuse_too_large(what: str, shape: tuple[int, ...], bytes_each: int, advice: str) -> None:
    """Refuse an array that the memory of this machine cannot hold."""
    needed, there = math.prod(shape) * bytes_each, _memory()
    if needed > there:
        raise ValueError(
            f"{what} would take {needed:.3g} bytes of memory; expected at most the {there:.3g} of "
            f"this machine; {advice}."
        )


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return 2**40


# -- kinds of containers ---------------------------------------------------------------------------
def _of_frame(frame: Any, name: str, categories: int | None, missing: bool) -> np.ndarray:
    columns = [str(column) for column in frame.columns]
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{name} has two columns named {twice!r}; expected each name once; rename or drop one."
        )
    if not columns:
        return np.zeros(frame.shape)
    found = [
        _of_series(frame.iloc[:, j], name, column, categories, missing)
        for j, column in enumerate(columns)
    ]
    for column, values in zip(columns, found, strict=True):
        if values.dtype.kind not in "fiubc":
            raise ValueError(
                f"{name} has a column {column!r} of dtype {values.dtype}; expected numbers; code "
                "it as numbers or drop it."
            )
        _refuse_inexact(values, f"Column {column!r} of {name}")
    return np.stack(found, 1)


def _of_series(
    series: Any, name: str, column: str, categories: int | None, allow_missing: bool
) -> np.ndarray:
    """The values of a pandas Series, by its own rules of what is missing."""
    missing = np.asarray(series.isna())
    if not missing.any():
        return _of_full_series(series, name, column, categories)
    if allow_missing:
        known = _of_full_series(series, name, column, categories, ~missing)
        if known.dtype.kind not in "fiub":
            return known if len(known) else np.full(len(series), np.nan)
        _refuse_inexact(known, column or name, np.flatnonzero(~missing))
        values = np.full(len(series), np.nan)
        values[~missing] = known
        return values
    where = f" in column {column!r}" if column else ""
    first = row_text(int(np.argmax(missing)), series.index, int(missing.sum()))
    raise ValueError(
        f"{name} has a missing value{where} at {first}; drop the row or impute the value."
    )


def _of_full_series(
    series: Any, name: str, column: str, categories: int | None, known: np.ndarray | None = None
) -> np.ndarray:
    """The values of a Series without missing ones, or of its `known` rows."""
    import pandas as pd

    index, rows = series.index, np.arange(len(series))
    if known is not None:
        series, rows = series[known], rows[known]
    kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype):
        values = kind.categories.to_numpy()
        if values.dtype.kind not in "fiub" and categories == len(values):
            return np.asarray(series.cat.codes)
        if values.dtype.kind not in "fiub":
            shown = ", ".join(map(str, values[:4]))
            raise ValueError(
                f"{column or name} has the categories {shown}; expected numbers; code them as "
                "numbers first, for example by .cat.codes."
            )
        return values[np.asarray(series.cat.codes)]
    if isinstance(kind, pd.SparseDtype):
        return series.sparse.to_dense().to_numpy()
    array = series.to_numpy()
    object_ = array.dtype.kind == "O"
    return _of_objects(array, column or name, False, (index, rows)) if object_ else array


def _of_array(value: Any, name: str, missing: bool = False) -> np.ndarray:
    units = (
        getattr(value, "units", None)
        if hasattr(value, "magnitude")
        else getattr(value, "unit", None)
    )
    if units is not None and not hasattr(value, "dims"):
        raise ValueError(
            f"{name} has the unit {units}; expected plain numbers; pass only its magnitude."
        )
    try:
        array = value.to_numpy() if hasattr(value, "to_numpy") else stack_entries(value)
        mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
        array = np.asarray(array)
    except Exception as error:
        if isinstance(error, ValueError) and isinstance(value, list | tuple):
            raise ValueError(
                f"{name} has rows of different lengths; expected one array of numbers; align them."
            ) from None
        raise ValueError(
            f"{name} is a {type(value).__name__} that NumPy cannot read; expected an array of "
            "numbers; convert it."
        ) from None
    if mask is not None and mask.any():
        if missing and array.dtype.kind in "fiub":
            _refuse_inexact(array[~mask], name)
            return np.where(mask, np.nan, array.astype(float))
        where = tuple(int(i) for i in np.argwhere(mask)[0])
        raise ValueError(
            f"{name} is masked{_at(where)}, which is a missing value; expected numbers; drop the "
            "row or impute the value."
        )
    return array


def _of_objects(
    array: np.ndarray, name: str, missing: bool = False, rows: tuple | None = None
) -> np.ndarray:
    """An array of Python objects as numbers, where all of them are; `rows` are the labels of a
    column and the rows that these values stand in.
    """
    numbers_found = np.full(array.shape, np.nan)
    for place, one in np.ndenumerate(array):
        if _is_missing(one):
            if missing:
                continue
            raise ValueError(
                f"{name} has a missing value{_at(place)}; drop the row or impute the value."
            )
        if not isinstance(one, numbers.Real | np.bool_):
            raise ValueError(_no_number(array, name, rows))
        if isinstance(one, int) and int(float(one)) != one:
            raise ValueError(_inexact(name, one, place))
        numbers_found[place] = float(one)
    return numbers_found


def _is_missing(one: Any) -> bool:
    """Whether an object stands for a missing value: None, pandas' NA and NaT, NaN."""
    is_nan = isinstance(one, float) and math.isnan(one)
    return one is None or is_nan or type(one).__name__ in ("NAType", "NaTType")


def _no_number(array: np.ndarray, name: str, rows: tuple | None) -> str:
    """What is said of objects that are no numbers; words before digits, which are only read as
    text because words stand among them.
    """
    strange = [
        (place, one)
        for place, one in np.ndenumerate(array)
        if not isinstance(one, numbers.Real | np.bool_ | type(None))
    ]
    words = [(place, one) for place, one in strange if not _is_digits(one)] or strange
    place, one = words[0]
    if rows is None:
        at = _at(place)
    else:
        at = f" at {row_text(int(rows[1][place[0]]), rows[0], len(words))}"
    return (
        f"{name} has dtype object and holds {_short(one)}{at}; expected numbers; code it as "
        "numbers first."
    )


def _is_digits(value: Any) -> bool:
    """Whether a text is a number in digits."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _refuse_inexact(
    array: np.ndarray, name: str, rows: np.ndarray | None = None, exact: int = 2**53
) -> None:
    """Refuse integers that float64 would round: some beyond `exact`. `rows` are those in which the
    values stand.
    """
    if array.dtype.kind not in "iu" or not array.size:
        return
    if int(array.min()) > -exact and int(array.max()) < exact:
        return
    for place in map(tuple, np.argwhere((array > exact) | (array < -exact))):
        if int(float(array[place])) != int(array[place]):
            at = place if rows is None else (rows[place[0]],)
            raise ValueError(_inexact(name, array[place], at))


def _inexact(name: str, value: Any, place: tuple) -> str:
    return (
        f"{name} holds {value}{_at(place)}, which float64 would round; expected numbers up to "
        "2**53; rescale it."
    )


def _at(place: tuple) -> str:
    place = tuple(int(i) for i in place)
    return (
        f" at row {place[0]}, column {place[1]}"
        if len(place) == 2
        else f" at index {place}"
        if place
        else ""
    )


def _short(value: Any) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) < 60 else shown[:57] + "..."
