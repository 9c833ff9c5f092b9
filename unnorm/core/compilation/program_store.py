"""Compiled programs kept on disk, for the next process: JAX's persistent cache, for verbs alone.

JAX has one cache for a process and reads its folder once. While a verb runs, an object of this
module stands in its place; afterwards JAX has what it had. So the compilations of other code are
neither read from here nor written. Where the user has set a folder of their own
(`JAX_COMPILATION_CACHE_DIR`, `jax.config`), or `UNNORM_CACHE=0`, nothing is done.

Files are written under another name and then renamed, so that processes beside each other never
read half a program. A folder serves one version of jaxlib on one kind of processor: machine code
for another one may not run.
"""

import contextlib
import hashlib
import os
import platform
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jaxlib

from unnorm.core.jax_compat import compilation_cache_replaced


@dataclass(frozen=True)
class StoreOptions:
    """What is kept, and how much.

    Attributes:
        max_bytes: of all programs together; the least recently used go first, down to
            `kept_share` of it, so that files are counted seldom.
        kept_share: see `max_bytes`.
        least_seconds: programs that compile faster are not written. To read one takes a few
            milliseconds.
        puts_between: programs written between two counts of the folder.
    """

    max_bytes: int = 2**30
    kept_share: float = 0.8
    least_seconds: float = 0.02
    puts_between: int = 200


class ProgramStore:
    """A folder of compiled programs, with the two functions that JAX calls."""

    def __init__(self, folder: Path, options: StoreOptions = StoreOptions()) -> None:
        self.options, self._path, self._puts = options, folder, 0
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> bytes | None:
        """The program of this key; None where there is none."""
        path = self._path / key
        try:
            found = path.read_bytes()
            os.utime(path)  # read last
        except OSError:
            return None
        return found

    def put(self, key: str, value: bytes) -> None:
        """Keep a program; a folder that cannot be written to keeps none."""
        own = self._path / f"{key}.{os.getpid()}.{threading.get_ident()}.tmp"
        try:
            own.write_bytes(value)
            own.replace(self._path / key)
        except OSError:
            own.unlink(missing_ok=True)
            return
        if self._puts % self.options.puts_between == 0:
            self.prune()
        self._puts += 1

    def prune(self) -> None:
        """Remove what was used least recently, of every folder beside this one too."""
        files = []
        for path in self._path.parent.glob("*/*"):
            with contextlib.suppress(OSError):  # another process removed it
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        left = sum(size for _, size, _ in files)
        if left <= self.options.max_bytes:
            return
        for _, size, path in sorted(files):
            if left <= self.options.kept_share * self.options.max_bytes:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            left -= size


def default_folder() -> Path:
    """The folder for this version of jaxlib and this kind of processor."""
    import platformdirs

    flags = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = hashlib.sha256(f"{platform.machine()} {platform.processor()} {flags}".encode())
    name = f"{jaxlib.__version__}-{kind.hexdigest()[:12]}"
    return Path(platformdirs.user_cache_dir("unnorm")) / "programs" / name


_LOCK = threading.Lock()
_STORES: dict[Path, ProgramStore | None] = {}


def _store() -> ProgramStore | None:
    """The store of this process; None where the folder cannot be made."""
    folder = default_folder()
    with _LOCK:
        if folder not in _STORES:
            try:
                _STORES[folder] = ProgramStore(folder)
            except OSError:
                _STORES[folder] = None
        return _STORES[folder]


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """Keep what is compiled inside, and take it from disk where it is there."""
    own = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # set at run time
    store = None if own or os.environ.get("UNNORM_CACHE") == "0" else _store()
    if store is None:
        yield
        return
    with compilation_cache_replaced(store, store.options.least_seconds):
        yield


__all__ = ["ProgramStore", "StoreOptions", "default_folder", "kept_programs"]
