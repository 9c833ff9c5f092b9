"""Where the parts of a run go when there is no store, and how they get there while the next one is
computed.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from unnorm.core.interrupts import interrupt_served
from unnorm.core.progress import bar
from unnorm.sampling.engine.block_noise import Phase
from unnorm.sampling.engine.chunked_run import Run
from unnorm.sampling.engine.multihost import Hosts
from unnorm.sampling.output.gathering import Filling


class Memory:
    """What parts keep, when there is no store."""

    def __init__(self, draws: int) -> None:
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

    def recall_or_try(self, trial: Callable[[], int]) -> int:
        return trial()

    def save(self, part: int, carry: Any, out: Any) -> None:
        self.groups = self.groups or tuple(Filling(self.draws) for _ in out)
        for group, arrays in zip(self.groups, out, strict=bool(out)):
            group.add(arrays)
        self.ends[part] = tuple(group.at for group in self.groups)

    def collect(self, last: int) -> tuple[dict, ...]:
        """Events, tracked functions and statistics of the parts up to `last`, as (chain, draw,
        ...).
        """
        return tuple(
            group.arrays(end) for group, end in zip(self.groups, self.ends[last], strict=True)
        )


class Behind:
    """Saves parts into a sink while the next one is computed: one at a time, in order."""

    def __init__(self, sink: Any) -> None:
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


@contextlib.contextmanager
def _stopped_by_ctrl_c() -> Iterator[None]:
    """End the block at Ctrl-C, with what is done."""
    try:
        yield
    except KeyboardInterrupt:
        interrupt_served()


def run_parts(run: Run, sink: Any, hosts: Hosts, progress: bool) -> tuple[Any, int, int]:
    """Every part that the sink does not hold; returns a carry, the part that it is of, and the
    draws up to there.

    That part is the last one, or after an interrupt the last before the first gap.
    """
    parts, plan = run.parts(), run.plan
    start = run.begin()
    at, passed = (
        (-1, start),
        -1,
    )  # the carry at hand and its part; the last part behind which there is no gap
    label = f"{type(run.kernel).__name__}, {plan.chains} chains"
    with (
        Behind(sink) as behind,
        bar(label, sum(map(run.steps, parts)), progress) as shown,
        _stopped_by_ctrl_c(),
    ):
        for i, part in enumerate(parts):
            if sink.has(i):
                shown.step(run.steps(part), "from the store")
            else:
                sink.claim()
                before = at[1] if at[0] == i - 1 else sink.carry(i - 1, run.template(i - 1, start))
                reached, out = run.advance(i, before, shown)
                behind.save(i, reached, out)
                at = (i, reached)
            hosts.agree(
                i
            )  # also after a part of the store: another process may have to make it again
            passed = i
    last = max(passed, at[0])
    done = sum(
        run.steps(part) // plan.thin for part in parts[: last + 1] if part.phase == Phase.SAMPLING
    )
    if not done:
        raise KeyboardInterrupt
    carry = at[1] if at[0] == last else sink.carry(last, run.template(last, start))
    return carry, last, min(done, plan.draws)
