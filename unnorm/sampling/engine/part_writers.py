"""Where the parts of a run go when there is no store, and how they get there while the next one is
computed.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from unnorm.sampling.output.gathering import Filling


class Memory:
    """What parts keep, when there is no store."""

    def __init__(self, draws: int):
        self.draws = draws
        self.groups: tuple[Filling, ...] = ()
        self.ends: dict[
            int, tuple[int, ...]
        ] = {}  # how much of each group there is after each part

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *_) -> None:
        return None

    def claim(self) -> None:
        return None

    def has(self, part: int) -> bool:
        return False

    def tried(self, trial: Callable[[], int]) -> int:
        return trial()

    def save(self, part: int, carry: Any, out: Any) -> None:
        self.groups = self.groups or tuple(Filling(self.draws) for _ in out)
        for group, arrays in zip(self.groups, out, strict=bool(out)):
            group.add(arrays)
        self.ends[part] = tuple(group.at for group in self.groups)

    def collected(self, last: int) -> tuple[dict, ...]:
        """Events, tracked functions and statistics of the parts up to `last`, as (chain, draw,
        ...).
        """
        return tuple(
            group.arrays(end) for group, end in zip(self.groups, self.ends[last], strict=True)
        )


class Behind:
    """Saves parts into a sink while the next one is computed: one at a time, in order."""

    def __init__(self, sink: Any):
        self.sink, self.pool = sink, ThreadPoolExecutor(1)
        self.writing: Future | None = None

    def __enter__(self) -> "Behind":
        return self

    def save(self, part: int, carry: Any, out: Any) -> None:
        self.wait()
        self.writing = self.pool.submit(self.sink.save, part, carry, out)

    def wait(self) -> None:
        """Until the sink holds all that it was given."""
        if self.writing is not None:
            self.writing.result()

    def __exit__(self, *_) -> None:
        self.pool.shutdown()
        self.wait()
