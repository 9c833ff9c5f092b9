"""A run on disk: parts that prove themselves, and a description of the run that they are bound to.

A store is a folder. `meta.json` describes the run; `part-00007.npz` holds what a part kept and the
carry after it, under a checksum, with the run's identity and its own number inside; `state.json`
lists the parts that count; `events`, `tracked` and `statistics` hold the gathered draws, which
`gathered.json` certifies. No pickle.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unnorm.sampling.output import archive, gathering
from unnorm.sampling.output.atomic_files import (
    LEFTOVER,
    DamageError,
    Lock,
    StoreError,
    checksum,
    disk_errors,
    parse_json,
    read,
    read_json,
    write,
    write_json,
)
from unnorm.sampling.output.gathering import KINDS
from unnorm.sampling.output.run_identity import (
    PART,
    read_meta,
    refuse_difference,
    refuse_foreign,
    refuse_unknown,
)


class Store:
    """Parts of a run in a folder, which this process alone may write to until it is closed."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder, self.wanted = folder, json.loads(json.dumps(meta))
        self.run, self.draws = checksum(self.wanted), self.wanted["options"].get("draws", 0)
        refuse_unknown(folder, self.wanted)
        with disk_errors(f"store {folder}"):
            self._found()  # refuses what is no store, before a file is made in it
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = Lock(folder)
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def _open(self) -> None:
        found, damaged = self._found()  # again, under the lock
        self.good = self._good_parts()
        if damaged and not self.good:
            read_meta(self.folder)  # raises: nothing proves that the folder is a store of this run
        if self.lock.writable:
            self._tidy(found)

    def _found(self) -> tuple[dict[str, Any] | None, bool]:
        """The description that is there, if it is the wanted run's (None where it must be written),
        and if damaged.
        """
        try:
            found = read_json(self.folder / "meta.json")
        except DamageError:
            refuse_foreign(self.folder)
            return None, True  # the parts tell whether they are of this run
        if found is not None:
            refuse_difference(self.folder, found, self.wanted)
        elif self.folder.exists():
            refuse_foreign(self.folder)
        return found, False

    def _tidy(self, found: dict[str, Any] | None) -> None:
        """Remove what a killed process left behind, and write the description where there is
        none.
        """
        for path in self.folder.iterdir():
            if LEFTOVER.fullmatch(path.name):
                path.unlink()
        if found is None:
            write_json(self.folder / "meta.json", self.wanted)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.lock.release()

    def claim(self) -> None:
        """Raise unless this process may write."""
        if self.lock.busy:
            raise StoreError(
                f"store {self.folder} is in use by another process; expected one process at a "
                "time until the run is "
                "complete; wait until the other one has ended, or name another store."
            )
        if self.lock.read_only:
            raise StoreError(
                f"store {self.folder} cannot be written, and its run is not complete; expected a "
                "writable folder; change its permissions, or copy it to another place."
            )

    # -- parts -------------------------------------------------------------------------------------
    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part:05d}.npz"

    def _good_parts(self) -> dict[int, dict[str, Any]]:
        """The header of every part that is whole, of this run, in its place, and listed (where
        there is a list).
        """
        listed, good = self._parts_in_list(), {}
        self.trial = None
        for path in sorted(self.folder.iterdir()):
            place = PART.fullmatch(path.name)
            header = place and self._header(path)
            if place is None or not header:
                continue
            part = int(place[1])
            if header["run"] != self.run:
                raise StoreError(
                    f"store {self.folder} holds {path.name} of another run; expected parts of one "
                    "run; remove that file, or name another store."
                )
            self.trial = header["trial"] if self.trial is None else self.trial
            alike = header["trial"] in (None, self.trial)
            if alike and header["part"] == part and (listed is None or part in listed):
                good[part] = header
        return good

    def _parts_in_list(self) -> set[int] | None:
        """The parts that count, and the one after them: its name may have come before its place in
        the list.

        None where the list is missing or damaged, for each part proves itself.
        """
        try:
            found = {int(part) for part in parse_json(read(self.folder / "state.json"))}
        except (OSError, DamageError, ValueError, TypeError):
            return None
        return found | {max(found, default=-1) + 1}

    @staticmethod
    def _header(path: Path) -> dict[str, Any] | None:
        try:
            content = read(path)
            header = parse_json(archive.unpack(content, only="header")["header"].tobytes())
            return {name: header[name] for name in ("run", "part", "trial", "rows")} | {
                "sum": content[-32:].hex()
            }
        except (OSError, DamageError, KeyError, TypeError):
            return None

    def has(self, part: int) -> bool:
        return part in self.good

    def save(self, part: int, carry: Any, out: Any) -> None:
        self.claim()
        leaves = {f"carry_{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(carry))}
        kept = {
            f"{kind}/{n}": v
            for kind, group in zip(KINDS, out, strict=bool(out))
            for n, v in group.items()
        }
        rows = {kind: gathering.rows_of(group) for kind, group in zip(KINDS, out, strict=bool(out))}
        header = {"run": self.run, "part": part, "trial": self.trial, "rows": rows}
        content = archive.pack(
            {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **leaves, **kept}
        )
        with disk_errors(f"part {part} of store {self.folder}"):
            write(self._path(part), content)
            self.good[part] = header | {"sum": content[-32:].hex()}
            sums = {str(i): self.good[i]["sum"] for i in sorted(self.good)}
            write(self.folder / "state.json", json.dumps(sums).encode())

    def recall_or_try(self, trial: Callable[[], int]) -> int:
        """What a trial found when the run began, which its parts remember: a run that goes on must
        not try again.
        """
        if self.trial is None:
            self.trial = trial()
        return self.trial

    def _arrays(self, part: int) -> dict[str, np.ndarray]:
        try:
            return archive.unpack(read(self._path(part)))
        except (OSError, DamageError) as error:
            raise StoreError(
                f"store {self.folder} has lost part {part} while it was open ({error}); expected "
                "one process at a time; run again to draw that part again."
            ) from None

    def carry(self, part: int, template: Any) -> Any:
        """The carry after a part, in the structure of `template`."""
        arrays = self._arrays(part)
        old, structure = jax.tree.flatten(template)
        held = [arrays.get(f"carry_{i}") for i in range(len(old))]
        if any(
            new is None or np.shape(new) != np.shape(_plain(was))
            for new, was in zip(held, old, strict=True)
        ):
            raise StoreError(
                f"store {self.folder} holds a part {part} whose state does not fit this run; "
                "expected parts of one run; name another store."
            )
        return jax.tree.unflatten(
            structure,
            [_like(new, was) for new, was in zip(held, old, strict=True)],  # type: ignore[arg-type]
        )

    # -- draws -------------------------------------------------------------------------------------
    def collect(self, last: int) -> tuple[dict, ...]:
        """Events, tracked functions and statistics of the parts up to `last`, (chain, draw, ...),
        as private maps.
        """
        found = gathering.certify(self.folder, self.run, last)
        if found is None:
            found = self._gather(last)
        return found

    def _gather(self, last: int) -> tuple[dict, ...]:
        parts = [part for part in range(last + 1) if self.good[part]["rows"]]
        rows = {k: min(sum(self.good[p]["rows"][k] for p in parts), self.draws) for k in KINDS}
        groups = (self._kept(part) for part in parts)
        if self.lock.read_only:
            return gathering.in_memory(groups, self.draws)
        self.claim()
        with disk_errors(f"the draws in store {self.folder}"):
            gathering.gather(self.folder, self.run, last, groups, rows)
        found = gathering.certify(self.folder, self.run, last)
        if found is None:
            raise StoreError(
                f"store {self.folder} changed while its draws were gathered; expected one "
                "process at a time; run again."
            )
        return found

    def _kept(self, part: int) -> tuple[dict[str, np.ndarray], ...]:
        """What a part kept, by kind and name; other names than the run's are refused."""
        arrays = self._arrays(part)
        groups = tuple(
            {n.split("/", 1)[1]: v for n, v in arrays.items() if n.startswith(k + "/")}
            for k in KINDS
        )
        declared = set(self.wanted["variable"]), set(self.wanted["tracked function"])
        for kind, group, names in zip(KINDS, groups, declared, strict=False):
            if not set(group) <= names or any(
                len(v) != self.good[part]["rows"][kind] for v in group.values()
            ):
                raise StoreError(
                    f"store {self.folder} holds a part {part} whose {kind} are "
                    f"{', '.join(sorted(group))[:80]}; "
                    f"expected {', '.join(sorted(names)) or 'none'}; name another store."
                )
        return groups


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as numbers; a typed key as its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(array: np.ndarray, was: Any) -> Any:
    leaf: Any = array
    return jax.random.wrap_key_data(leaf) if _is_key(was) else jax.numpy.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
