"""Files that are written whole or not at all, read only if they are regular, and locked: what
stores stand on.

A file is made under a temporary name of its own in the same folder (O_EXCL, O_NOFOLLOW), filled,
synced and renamed, so that no reader sees half of one and no mapping of an older file is ever
truncated.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.tmp|(meta|state|trial)\.json\.tmp|part-\d+\.npz\.tmp")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_BLOCK = getattr(os, "O_NONBLOCK", 0)  # a FIFO under a file's name must not hang the reader
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_ALLOCATION = (
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.ENOSYS,
)  # file systems without posix_fallocate
_NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)


class StoreError(ValueError):
    """A store or a saved fit that is damaged, in use, of another run, or cannot be written.

    Example:
        >>> import unnorm as un
        >>> normal = un.Density(lambda x: -0.5 * x**2, {"x": un.Real})
        >>> try:
        ...     un.resume("no-such-folder", normal)
        ... except un.StoreError as error:
        ...     print(error)
        store no-such-folder holds no run; expected a folder that un.sample wrote; check the path.
    """


class DiskError(OSError, StoreError):
    """A StoreError of the disk: full, read-only, gone."""


class DamageError(Exception):
    """What was read is not what was written; why, in a phrase."""


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an OSError of writing into one sentence."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raised = DiskError(
            f"{what} cannot be written ({os.strerror(error.errno) if error.errno else error}); "
            "expected a writable "
            "folder with enough space; free some, or name another one: complete parts are kept."
        )
        raised.errno = error.errno
        raise raised from error


@contextlib.contextmanager
def replacing(path: Path, size: int) -> Iterator[BinaryIO]:
    """A new file of `size` bytes, allocated before it is filled, that takes the place of `path`
    once it is whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o666)
    try:
        with open(descriptor, "wb") as file:
            _allocate(descriptor, size)
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _allocate(descriptor: int, size: int) -> None:
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NO_ALLOCATION:
                raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path, len(content)) as file:
        file.write(content)


def read(path: Path, follow: bool = False) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: no such file, a symbolic link (unless `follow`), or no regular file.
    """
    with open_regular(path, follow) as file:
        return file.read()


def open_regular(path: Path, follow: bool = False) -> BinaryIO:
    """A regular file, opened to be read."""
    descriptor = os.open(path, os.O_RDONLY | _NO_BLOCK | (0 if follow else _NO_FOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return open(descriptor, "rb")


def is_real_folder(path: Path) -> bool:
    """Whether it is a folder and no symbolic link."""
    return path.is_dir() and not path.is_symlink()


# -- JSON under a checksum -------------------------------------------------------------------------
def canonical(tree: Any) -> str:
    """JSON in which equal trees are equal texts."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def checksum(tree: Any) -> str:
    """The SHA-256 of the canonical JSON."""
    return sha256(canonical(tree).encode()).hexdigest()


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write JSON with a checksum of its content."""
    write(path, json.dumps({"checksum": checksum(tree)} | tree, indent=1).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None where there is no such file.

    Raises:
        DamageError: anything else.
    """
    try:
        content = read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamageError(str(error)) from None
    tree = parse_json(content)
    if not isinstance(tree, dict):
        raise DamageError("it is no JSON object")
    found = tree.pop("checksum", None)
    if found is None and tree.get("format") == 1:
        return tree  # that format had no checksum: the caller names it
    if found != checksum(tree):
        raise DamageError("its checksum differs")
    return tree


def parse_json(content: bytes) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise DamageError("it is no JSON") from None


# -- one writer at a time --------------------------------------------------------------------------
class Lock:
    """One writer of a folder at a time, by `flock` on the file `lock`; the kernel frees it when the
    process dies.
    """

    def __init__(self, folder: Path) -> None:
        self.held, self.busy, self.read_only = None, False, False
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            self.read_only = True
            return
        self.held = descriptor
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.busy = True
            self.release()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                self.release()
                raise

    @property
    def writable(self) -> bool:
        return not (self.busy or self.read_only)

    def release(self) -> None:
        if self.held is not None:
            os.close(self.held)
            self.held = None
