"""What a store says of its run: read, compared, and refused where it is another one's."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unnorm.sampling.output.atomic_files import LEFTOVER, DamageError, StoreError, read_json
from unnorm.sampling.output.fingerprints import UNKNOWN
from unnorm.sampling.output.gathering import KINDS


@dataclass(frozen=True)
class StoreFormat:
    """Attributes:
    version: of a store's files; raised when older code would misread a new store.
    """

    version: int = 2


FORMAT = StoreFormat()
PART = re.compile(r"part-(\d{5,9})\.npz")
_OWN = {"lock", "meta.json", "state.json", "gathered.json", *KINDS}


def read_meta(folder: Path) -> dict | None:
    """What a store says of itself; None where there is no store.

    Raises:
        StoreError: a damaged description, or one of another format.
    """
    try:
        found = read_json(Path(folder) / "meta.json")
    except DamageError as error:
        raise StoreError(
            f"store {folder} has a damaged meta.json ({error}); expected the file that un.sample "
            "wrote; repeat the call of un.sample with its seed: complete parts are used again."
        ) from None
    if found is not None:
        _refuse_format(folder, found)
    return found


def _refuse_format(folder: Path, found: dict) -> None:
    if found.get("format") != FORMAT.version:
        raise StoreError(
            f"store {folder} is of format {found.get('format')}, and this version of unnorm "
            f"reads format {FORMAT.version}; "
            "expected the same; finish it with the version that wrote it, or name another store."
        )


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything but a store."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name + "/"}
    foreign = sorted(
        n for n in names if n not in _OWN and not LEFTOVER.fullmatch(n) and not PART.fullmatch(n)
    )
    if foreign:
        raise StoreError(
            f"store {folder} holds other files; expected a new or empty folder; choose another."
        )


def refuse_difference(folder: Path, found: dict, wanted: dict) -> None:
    """Say in what a store's run and the wanted one differ, if they do."""
    _refuse_format(folder, found)
    old, new = dict(_flat(found)), dict(_flat(json.loads(json.dumps(wanted))))
    for name in [*new, *old]:
        if name.startswith("rebuild") or old.get(name) == new.get(name):
            continue
        raise StoreError(
            f"store {folder} holds a run whose {name} is {_short(old.get(name))}, and "
            f"{_short(new.get(name))} was "
            "given; expected the same; make them agree, or name another store."
        )


def refuse_unknown(folder: Path, meta: dict) -> None:
    """Refuse a run that cannot be distinguished from another: it could not be resumed safely."""
    for name, value in _flat(meta):
        if isinstance(value, str) and UNKNOWN in value:
            raise StoreError(
                f"store {folder} was asked for a run whose {name} is {_short(value)}; expected "
                "numbers, NumPyro distributions and plain functions; pass one of these, or leave "
                "store out."
            )


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{prefix} {name}".strip())
    elif tree != {}:
        yield prefix, tree


def _short(value: Any) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
