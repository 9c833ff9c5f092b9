"""The free entries of all parameters: their labels, their bounds, and the index of their tables."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

AXES = "ijklmnopqrstuvwxyz"  # names of the levels below "parameter"


def _parameters(density: Any) -> list[tuple[str, Any, tuple[int, ...], dict[str, tuple]]]:
    """Every parameter once: its name, support, shape, and the labels of its dimensions."""
    found: dict = {}
    for p in density if isinstance(density, list) else [density]:
        for name, support in p.supports.items():
            shape = np.shape(p.parameters[name]) if support.shape_axes else ()
            found.setdefault(name, (name, support, shape, p.labels))
    return list(found.values())


def entry_keys(density: Any) -> list[tuple]:
    """The free entries of all parameters as tuples: the parameter, and a label for each axis."""
    return [
        (name, *(i if label is None else label[i] for i, label in zip(place, axes, strict=False)))
        for name, support, shape, labels in _parameters(density)
        for axes in [[labels.get(axis) for axis in support.shape_axes]]
        for place in support.entries(shape)
    ]


def flat_label(key: tuple) -> str:
    """The label of an entry as one string: ("coupling", "a", "b") is "coupling[a,b]"."""
    name, *inside = key
    return f"{name}[{','.join(map(str, inside))}]" if inside else str(name)


def entry_labels(density: Any) -> list[str]:
    """The labels of the free entries of all parameters of a density, or of a list of them."""
    return [flat_label(key) for key in entry_keys(density)]


def entry_bounds(density: Any) -> list[tuple[float, float]]:
    """The bounds of the free entries, in the order of their labels."""
    return [
        s.entry_bounds(place)
        for _, s, shape, _ in _parameters(density)
        for place in s.entries(shape)
    ]


def free_places(density: Any, parameter: str) -> tuple[Any, list[tuple[int, ...]]]:
    """A parameter's support, and the places of its free entries."""
    one = next(found for found in _parameters(density) if found[0] == parameter)
    return one[1], one[1].entries(one[2])


class EntryIndex(pd.MultiIndex):
    """The levels parameter, i, j of the free entries; a scalar's lower levels are "".

    In a lookup the flat label of an entry ("coupling[a,b]", and "rate" of a scalar) does as well
    as its tuple, so that a scalar parameter's row is a row and its estimate a number.
    """

    @property
    def keys(self) -> list[tuple]:
        """The entries' tuples, without the empty labels that fill the lower levels."""
        return [
            key[: 1 + max((at for at, label in enumerate(key) if at and label != ""), default=0)]
            for key in self.to_flat_index()
        ]

    @property
    def flat(self) -> list[str]:
        """The entries' labels as strings."""
        return [flat_label(key) for key in self.keys]

    def _key(self, label: Any) -> Any:
        """The tuple of a flat label; anything else as it is."""
        if not isinstance(label, str):
            return label
        found = dict(zip(self.flat, self.to_flat_index(), strict=True))
        return found.get(label, label)

    def get_loc(self, key: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.PerformanceWarning)  # tables are small
            return super().get_loc(self._key(key))

    def _get_loc_level(self, key: Any, level: Any = 0) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
            return super()._get_loc_level(self._key(key), level)

    def _get_indexer_strict(self, key: Any, axis_name: str) -> Any:
        labels = list(key) if isinstance(key, Iterable) else [key]
        found = [self._key(label) for label in labels]
        each = found and all(isinstance(one, tuple) for one in found)
        return super()._get_indexer_strict(found if each else key, axis_name)

    def take(self, *args: Any, **options: Any) -> Any:
        found = super().take(*args, **options)
        return _of(found) if isinstance(found, pd.MultiIndex) else found

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _of(found) if isinstance(found, pd.MultiIndex) else found


def _of(index: pd.MultiIndex) -> EntryIndex:
    return EntryIndex(levels=index.levels, codes=index.codes, names=index.names)


def _levels(density: Any, keys: list[tuple], depth: int) -> Iterator[list]:
    """The labels of each level in their dimensions' own order, so that the index is sorted."""
    yield list(dict.fromkeys(key[0] for key in keys))
    for axis in range(depth):
        seen: dict = {"": None}
        for _, support, shape, labels in _parameters(density):
            if axis < len(shape):
                size, own = shape[axis], labels.get(support.shape_axes[axis])
                seen |= dict.fromkeys(range(size) if own is None else own)
        yield list(seen)


def entry_index(density: Any) -> EntryIndex:
    """The index of a table with a row for each free entry: the levels parameter, i and j, and k, l
    where a parameter has more axes.
    """
    keys = entry_keys(density)
    depth = max([2, *(len(key) - 1 for key in keys)])
    levels = list(_levels(density, keys, depth))
    places = [{label: at for at, label in enumerate(level)} for level in levels]
    filled = [(*key, *[""] * (1 + depth - len(key))) for key in keys]
    codes = [[place[key[at]] for key in filled] for at, place in enumerate(places)]
    return EntryIndex(levels=levels, codes=codes, names=["parameter", *AXES[:depth]])
