"""A run on disk: every part by temporary file, fsync and rename, found whole by its checksum or made again.

A store is a folder: `meta.json` says what was run, `part-00007.npz` holds what a part kept and the carry after it, and
`state.json`, written last, lists the checksums of the parts that count; `trial.json` what was tried out. No pickle.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

FORMAT = 1
KINDS = ("events", "tracked", "statistics")


class Store:
    """Parts of a run in a folder."""

    def __init__(self, folder: Path, meta: dict[str, Any]):
        self.folder, self.draws = folder, meta["options"].get("draws", 0)
        found = read_meta(folder)
        if found is None:
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ValueError(f"store {folder} holds something else; expected a new or empty folder; name another.")
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / "meta.json", json.dumps(meta, indent=1).encode())
        else:
            refuse_difference(folder, found, meta)
        self.sums = {int(part): value for part, value in _read_json(folder / "state.json").items()}
        self.good = {part for part in self.sums if self._whole(part)}

    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part:05d}.npz"

    def _whole(self, part: int) -> bool:
        try:
            return hashlib.sha256(self._path(part).read_bytes()).hexdigest() == self.sums[part]
        except OSError:
            return False

    def has(self, part: int) -> bool:
        return part in self.good

    def save(self, part: int, carry: Any, out: Any) -> None:
        buffer = io.BytesIO()
        leaves = {f"carry_{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(carry))}
        kept = {f"{kind}/{n}": v for kind, group in zip(KINDS, out, strict=bool(out)) for n, v in group.items()}
        np.savez(buffer, **leaves, **kept)
        content = buffer.getvalue()
        write(self._path(part), content)
        self.sums[part] = hashlib.sha256(content).hexdigest()
        write(self.folder / "state.json", json.dumps(self.sums).encode())
        self.good.add(part)

    def tried(self, trial: Callable[[], int]) -> int:
        """What a trial found when the run began: a run that goes on must not find something else."""
        path = self.folder / "trial.json"
        if not path.exists():
            write(path, json.dumps({"chain_block": trial()}).encode())
        return _read_json(path)["chain_block"]

    def carry(self, part: int, template: Any) -> Any:
        """The carry after a part, in the structure of `template`."""
        with np.load(self._path(part)) as held:
            leaves = [held[f"carry_{i}"] for i in range(sum(name.startswith("carry_") for name in held.files))]
        old, structure = jax.tree.flatten(template)
        return jax.tree.unflatten(structure, [_like(new, was) for new, was in zip(leaves, old, strict=True)])

    def collected(self) -> tuple[dict, ...]:
        """Events, tracked functions and statistics, as (chain, draw, ...) memory maps."""
        groups = {kind: Filling(self.draws, self.folder / kind) for kind in KINDS}
        for part in sorted(self.good):
            with np.load(self._path(part)) as held:
                for kind, group in groups.items():
                    names = [name for name in held.files if name.startswith(kind + "/")]
                    group.add({name.split("/", 1)[1]: held[name] for name in names})
        return tuple(group.arrays() for group in groups.values())


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as numbers; a typed key as its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(array: np.ndarray, was: Any) -> Any:
    return jax.random.wrap_key_data(array) if _is_key(was) else jax.numpy.asarray(array)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}


def read_meta(folder: Path) -> dict | None:
    """What a store says of itself; None where there is no store."""
    return _read_json(Path(folder) / "meta.json") or None


def refuse_difference(folder: Path, found: dict, wanted: dict) -> None:
    """Say in what a store's run and the wanted one differ, if they do."""
    old, new = dict(_flat(found)), dict(_flat(json.loads(json.dumps(wanted))))
    for name in [*new, *old]:
        if name.startswith("rebuild") or old.get(name) == new.get(name):
            continue
        raise ValueError(
            f"store {folder} holds a run whose {name} is {_short(old.get(name))}, and {_short(new.get(name))} was "
            "given; expected the same; make them agree, or name another store."
        )


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _flat(value, f"{prefix} {name}".strip())
    else:
        yield prefix, tree


def _short(value: Any) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def fingerprint(array: Any) -> str:
    """Numbers by their content: short ones as they are, long ones by hash."""
    array = np.asarray(array)
    if array.size <= 4:
        return str(array.tolist())
    return f"array {hashlib.sha256(array.tobytes() + str((array.shape, array.dtype)).encode()).hexdigest()[:12]}"


class Memory:
    """What parts keep, when there is no store."""

    def __init__(self, draws: int):
        self.draws = draws
        self.groups: tuple[Filling, ...] = ()

    def has(self, part: int) -> bool:
        return False

    def tried(self, trial: Callable[[], int]) -> int:
        return trial()

    def save(self, part: int, carry: Any, out: Any) -> None:
        self.groups = self.groups or tuple(Filling(self.draws) for _ in out)
        for group, arrays in zip(self.groups, out, strict=bool(out)):
            group.add(arrays)

    def collected(self) -> tuple[dict, ...]:
        """Events, tracked functions and statistics, as (chain, draw, ...)."""
        return tuple(group.arrays() for group in self.groups)


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


class Filling:
    """Arrays that parts fill in turn, in memory or as memory maps; made once, for fresh memory costs like a copy."""

    def __init__(self, draws: int, folder: Path | None = None):
        self.draws, self.folder, self.at = draws, folder, 0
        self.held: dict[str, np.ndarray] = {}

    def add(self, part: dict[str, np.ndarray]) -> None:
        """Take (draw, chain, ...) arrays; draws beyond the last are left out."""
        count = 0
        for name, value in part.items():
            if name not in self.held:
                self.held[name] = self._empty(name, (self.draws, *value.shape[1:]), value.dtype)
            count = min(len(value), self.draws - self.at)
            self.held[name][self.at : self.at + count] = value[:count]
        self.at += count

    def _empty(self, name: str, shape: tuple, dtype: Any) -> np.ndarray:
        if self.folder is None:
            return np.empty(shape, dtype)
        self.folder.mkdir(exist_ok=True)
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", dtype, shape)

    def arrays(self) -> dict[str, np.ndarray]:
        """What was filled, as (chain, draw, ...)."""
        return {name: value[: self.at].swapaxes(0, 1) for name, value in self.held.items()}
