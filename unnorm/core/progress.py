"""A progress bar that is there on a terminal and nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class CompilingOptions:
    """When and how a bar says that the compiler works.

    Attributes:
        compiling_per_lowering: seconds of XLA for a second in which JAX writes the program down
            for it: 4 for programs that are compiled quickly, 7 to 11 for NUTS.
        least_seconds: shorter compilations are not shown.
    """

    compiling_per_lowering: float = 7.0
    least_seconds: float = 1.0


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
        shown = Bar(lambda amount, words: progress.update(task, advance=amount, words=words))
        with _as_current(shown), _compilation_shown(shown):
            yield shown


@contextmanager
def _compilation_shown(
    shown: Bar, options: CompilingOptions = CompilingOptions()
) -> Iterator[None]:
    """Say on the bar that XLA compiles, and about how long; JAX reports each step when it ends."""

    def hear(event: str, duration_secs: float, **kwargs: Any) -> None:
        if event.endswith("jaxpr_to_mlir_module_duration"):  # XLA is next
            expected = options.compiling_per_lowering * duration_secs
            if expected >= options.least_seconds:
                shown.step(0, f"compiling (about {expected:.0f} s, once)")
        elif event.endswith("backend_compile_duration") and duration_secs >= options.least_seconds:
            shown.step(0, "")

    jax.monitoring.register_event_duration_secs_listener(hear)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(hear)


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
