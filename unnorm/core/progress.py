"""A progress bar that is there on a terminal and nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Bar:
    """What a loop reports to: how far it is, and a few words."""

    def __init__(self, advance=None) -> None:
        self._advance = advance

    def step(self, amount: float = 1, words: str | Callable[[], str] = "") -> None:
        """Go on by an amount; words that cost something to find are given as a function."""
        if self._advance is not None:
            self._advance(amount, words() if callable(words) else words)


@contextmanager
def bar(description: str, total: float, show: bool) -> Iterator[Bar]:
    """Show a bar while the block runs, if asked for and if standard error is a terminal."""
    if not (show and sys.stderr.isatty()):
        with _as_current(Bar()) as shown:
            yield shown
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, words="")
        with _as_current(
            Bar(lambda amount, words: progress.update(task, advance=amount, words=words))
        ) as shown:
            yield shown


_CURRENT: ContextVar[Bar] = ContextVar("current bar", default=Bar())  # noqa: B039 (it holds no state)


@contextmanager
def _as_current(shown: Bar) -> Iterator[Bar]:
    token = _CURRENT.set(shown)
    try:
        yield shown
    finally:
        _CURRENT.reset(token)


def report(amount: float, words: str | Callable[[], str] = "") -> None:
    """Step the bar of the verb that is running, for parts that are not handed it."""
    _CURRENT.get().step(amount, words)
