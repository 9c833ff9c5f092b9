"""The few phrases that error messages share."""

import difflib
from collections.abc import Iterable


def choose_from(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? Known: ..." for a name that is not among the known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known) if known else 'none'}"


def listed(names: Iterable[str], most: int = 4) -> str:
    """Return "a, b and 3 more"."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
