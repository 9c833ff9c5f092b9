"""Where a fault lies in the data, in the user's own labels: x[age] at "row 3 (index 'p04')"."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


def row_text(row: int, index: Any = None, count: int = 1) -> str:
    """The row of the first fault by its number, by its label where that is another, and how many
    faults there are.
    """
    label = None if index is None or row >= len(index) else index[row]
    label = label.item() if hasattr(label, "item") else label
    notes = [] if label is None or label == row else [f"index {label!r}"]
    notes += [f"the first of {count:,}"] if count > 1 else []
    return f"row {row} ({', '.join(notes)})" if notes else f"row {row}"


class RowLabels(NamedTuple):
    """The labels of the data: of the rows, and of the dimensions of an event by their names."""

    index: Any = None
    labels: Mapping[str, Sequence] = {}

    def entry(self, name: str, where: Sequence[int], axes: Sequence[Any]) -> str:
        """The entry of a place (row, ...): "x[age]", "x[1]", and "x" of a scalar."""
        named = [*axes, *[None] * len(where)]
        inside = [
            str(self.labels[axis][i]) if axis in self.labels else str(int(i))
            for i, axis in zip(where[1:], named, strict=False)
        ]
        return f"{name}[{', '.join(inside)}]" if inside else name

    def row(self, number: Any, count: int = 1) -> str:
        """The row in words, and how many faults there are."""
        return row_text(int(number), self.index, count)
