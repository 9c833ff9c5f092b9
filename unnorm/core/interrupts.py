"""Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever it stands. Within a callback of the garbage collector, of
which JAX has one, the error is printed and dropped, and the run goes on. While a verb runs, an
interrupt is remembered until somebody has served it, and raised again before the next program.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

_PENDING = threading.Event()


@contextlib.contextmanager
def interrupts_kept() -> Iterator[None]:
    """Remember Ctrl-C inside; nothing is done in other threads, and where the user has a handler
    of their own.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
        raise_pending()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _PENDING.clear()


def raise_pending() -> None:
    """Raise KeyboardInterrupt where one was dropped; in the main thread alone."""
    if _PENDING.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def interrupt_served() -> None:
    """Forget the interrupt, which the caller has caught."""
    _PENDING.clear()


def _remember(number: int, frame: Any) -> None:
    _PENDING.set()
    signal.default_int_handler(number, frame)


__all__ = ["interrupt_served", "interrupts_kept", "raise_pending"]
