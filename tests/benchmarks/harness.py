"""Timing contenders fairly: one process, alternating turns, medians."""

import contextlib
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

REPEATS = 9


def medians(
    contenders: dict[str, Callable[[int], object]], repeats: int = REPEATS
) -> dict[str, float]:
    """Median seconds of each contender, called with the number of its turn; a first, compiling turn
    is left out."""
    for call in contenders.values():
        call(0)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(1, repeats + 1):
        for name, call in contenders.items():
            began = time.perf_counter()
            call(turn)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(header), ["---"] * len(list(header)), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Standard error as a terminal that somebody reads, so that progress bars are drawn."""
    reading, writing = os.openpty()

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            while os.read(reading, 65536):
                pass

    reader, before = threading.Thread(target=read, daemon=True), sys.stderr
    reader.start()
    with os.fdopen(writing, "w") as screen:
        sys.stderr = screen
        try:
            yield
        finally:
            sys.stderr = before
    os.close(reading)
