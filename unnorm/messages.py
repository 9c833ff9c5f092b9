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


def shown(value: object, most: int = 60) -> str:
    """The value as one short line of a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: object) -> str:
    """The text with question marks for lone surrogates, which no file and no font can hold."""
    return str(text).encode("utf-8", "replace").decode("utf-8")
