"""Arrays by name as bytes under a checksum: an uncompressed npz archive, and the SHA-256 of it
behind.

Reading allocates no more than the file is long: nothing compressed, and every header's size is held
against the bytes that are there, before an array is made of them.
"""

import io
import math
import zipfile
from hashlib import sha256
from typing import Any

import numpy as np

from unnorm.sampling.output.atomic_files import DamageError

_DIGEST = sha256().digest_size
_KINDS = "fiubc"  # numbers; no objects, so that nothing is unpickled


def pack(arrays: dict[str, Any]) -> bytes:
    """Arrays as an uncompressed npz archive, followed by its SHA-256."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content = buffer.getvalue()
    return content + sha256(content).digest()


def is_whole(content: bytes) -> bool:
    """Whether the content matches its checksum."""
    return content[-_DIGEST:] == sha256(content[:-_DIGEST]).digest()


def unpack(content: bytes, only: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of `pack` (or `only` one of them).

    Raises:
        DamageError: anything that `pack` did not write.
    """
    if not is_whole(content):
        raise DamageError("its checksum differs")
    try:
        with zipfile.ZipFile(io.BytesIO(content[:-_DIGEST])) as held:
            members = held.infolist()
            _refuse_large(members, len(content))
            named = {member.filename.removesuffix(".npy"): member for member in members}
            wanted = named if only is None else {only: named[only]}
            return {name: _array(held.read(member)) for name, member in wanted.items()}
    except DamageError:
        raise
    except (
        Exception
    ) as error:  # a crafted archive may raise nearly anything in zipfile and in NumPy
        raise DamageError(f"it is no archive of arrays ({type(error).__name__})") from None


def _refuse_large(members: list[zipfile.ZipInfo], size: int) -> None:
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > size:
        raise DamageError("it claims to hold more than its size")


def _array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    at, count = stream.tell(), math.prod(shape)
    if (
        dtype.kind not in _KINDS
        or min(shape, default=0) < 0
        or count * dtype.itemsize != len(content) - at
    ):
        raise DamageError("an array's header does not fit its bytes")
    return np.frombuffer(content, dtype, count, at).reshape(shape, order="F" if fortran else "C")
