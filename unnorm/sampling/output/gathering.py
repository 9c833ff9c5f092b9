"""The draws of all parts as one array each: in memory, or as files that are made once and mapped
without writing.

A file is allocated in full before it is filled, and takes its name when it is whole. Maps are
copy-on-write: what a user edits stays in memory.
"""

import contextlib
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from unnorm.sampling.output.atomic_files import (
    DamageError,
    StoreError,
    is_real_folder,
    open_regular,
    read_json,
    replacing,
    write_json,
)

KINDS = ("events", "tracked", "statistics")

Groups = tuple[dict[str, np.ndarray], ...]  # arrays (draw, chain, ...) by name, for each of KINDS


class Filling:
    """Arrays that parts fill in turn; made once, for fresh memory costs like a copy."""

    def __init__(self, draws: int) -> None:
        self.draws, self.at = draws, 0
        self.held: dict[str, np.ndarray] = {}

    def add(self, part: dict[str, np.ndarray]) -> None:
        """Take (draw, chain, ...) arrays; draws beyond the last are left out."""
        count = 0
        for name, value in part.items():
            if name not in self.held:
                self.held[name] = np.empty((self.draws, *value.shape[1:]), value.dtype)
            count = min(len(value), self.draws - self.at)
            self.held[name][self.at : self.at + count] = value[:count]
        self.at += count

    def arrays(self, count: int) -> dict[str, np.ndarray]:
        """The first `count`, as (chain, draw, ...)."""
        return {name: value[:count].swapaxes(0, 1) for name, value in self.held.items()}


def rows_of(group: dict[str, np.ndarray]) -> int:
    """The number of draws in a group of arrays."""
    return len(next(iter(group.values()))) if group else 0


def in_memory(parts: Iterable[Groups], draws: int) -> Groups:
    """The arrays of all parts, (chain, draw, ...), without files."""
    groups = tuple(Filling(draws) for _ in KINDS)
    for part in parts:
        for group, arrays in zip(groups, part, strict=True):
            group.add(arrays)
    return tuple(group.arrays(group.at) for group in groups)


def gather(
    folder: Path, run: str, last: int, parts: Iterable[Groups], rows: dict[str, int]
) -> None:
    """Write the arrays of all parts, one file each, and then `gathered.json`, which certifies
    them.
    """
    writers: dict[str, _Writer] = {}
    with contextlib.ExitStack() as stack:
        for part in parts:
            for kind, arrays in zip(KINDS, part, strict=True):
                for name, value in arrays.items():
                    key = f"{kind}/{name}"
                    if key not in writers:
                        path = _made(folder / kind) / _file_name(name)
                        writers[key] = _Writer(stack, path, rows[kind], value)
                    writers[key].add(value)
        for key, writer in writers.items():
            if writer.missing:
                raise StoreError(
                    f"store {folder} has parts of different {key}; expected parts of one run; "
                    "choose another store."
                )
    sums = {key: writer.digest.hexdigest() for key, writer in writers.items()}
    write_json(folder / "gathered.json", {"run": run, "last": last, "files": sums})


class _Writer:
    """One file being filled."""

    def __init__(
        self, stack: contextlib.ExitStack, path: Path, rows: int, like: np.ndarray
    ) -> None:
        self.missing, self.row = rows, (like.shape[1:], like.dtype)
        head = _header((rows, *like.shape[1:]), like.dtype)
        size = len(head) + rows * int(np.prod(like.shape[1:])) * like.dtype.itemsize
        self.file = stack.enter_context(replacing(path, size))
        self.digest = hashlib.sha256()
        self._put(head)

    def _put(self, content: Any) -> None:
        self.digest.update(content)
        self.file.write(content)

    def add(self, value: np.ndarray) -> None:
        if (value.shape[1:], value.dtype) != self.row:
            self.missing = -1
            return
        value = np.ascontiguousarray(value[: self.missing])
        self.missing -= len(value)
        self._put(value.tobytes())


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return head.getvalue()


def _made(folder: Path) -> Path:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise StoreError(
            f"{folder} is not a folder of the store; expected a folder of the store, or none; "
            "remove it."
        )
    folder.mkdir(exist_ok=True)
    return folder


def _file_name(name: str, *, max_length: int = 180) -> str:
    """A name that stays inside its folder, whatever the variable is called."""
    safe = quote(name, safe="")
    if len(safe) > max_length:
        safe = f"{safe[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{safe}.npy"


def certify(folder: Path, run: str, last: int) -> Groups | None:
    """Maps of the gathered files, if they are those of these parts, byte for byte; else None."""
    try:
        record = read_json(folder / "gathered.json") or {}
        if (record.get("run"), record.get("last")) != (run, last):
            return None
        groups: Groups = tuple({} for _ in KINDS)
        for key, wanted in record["files"].items():
            kind, _, name = key.partition("/")
            group = groups[KINDS.index(kind)]
            group[name] = _map(folder / kind, _file_name(name), wanted).swapaxes(0, 1)
    except (DamageError, OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return groups


def _map(folder: Path, name: str, wanted: str) -> np.ndarray:
    if not is_real_folder(folder):
        raise DamageError("no folder")
    with open_regular(folder / name) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != wanted:  # type: ignore[arg-type]
            raise DamageError("its checksum differs")
        file.seek(0)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "c", file.tell(), shape)
