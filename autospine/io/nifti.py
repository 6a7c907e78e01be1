"""What ITK's NIfTI reader passes over in silence: it takes missing, damaged and NaN voxels for zeros."""

from __future__ import annotations

import gzip
import zlib
from contextlib import closing
from pathlib import Path
from typing import IO, Final

import numpy as np

from autospine.core.errors import ImageError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_FLOATS: Final = {16: "f4", 64: "f8"}  # NIfTI's datatype codes
_HEADER_SIZES: Final = {
    348,
    540,
}  # NIfTI-1, NIfTI-2; stands in the first four bytes, in the file's byte order
_PIECE: Final = 1 << 20


def is_nifti(path: Path) -> bool:
    """Whether a file's ending is that of NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def require_sound(path: Path, offset: int, size: int, datatype: int) -> None:
    """Read a NIfTI file once through and refuse it when it is short, damaged or holds NaN.

    Args:
        path: The file, compressed or not.
        offset: Bytes before the voxels.
        size: Bytes of all voxels.
        datatype: The header's code of the pixel type.

    Raises:
        ImageError: The file is truncated, fails its checksum, or holds NaN or infinite values.
    """
    try:
        with closing(_open(path)) as stream:
            found, bad = _scan(stream, offset, size, datatype)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    if found < size:
        raise _damaged(path, f"{found} of {size} bytes of voxels")
    if bad:
        raise ImageError(
            f"The image holds {bad} NaN or infinite values.",
            where=path,
            remedy="Replace them, for instance by -1024 (air), or leave the scan out.",
        )


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    # Some files are called .nii.gz without being compressed, and ITK reads them.
    with path.open("rb") as handle:
        compressed = handle.read(2) == _GZIP_MAGIC
    return gzip.open(path) if compressed else path.open("rb")


def _scan(stream: IO[bytes] | gzip.GzipFile, offset: int, size: int, datatype: int) -> tuple[int, int]:
    """Bytes of voxels that are there, and how many voxels are not finite."""
    header = stream.read(offset)
    order = "<" if int.from_bytes(header[:4], "little") in _HEADER_SIZES else ">"
    kind = _FLOATS.get(datatype)
    found = bad = 0
    # To the very end, because the checksum stands behind the last byte.
    while piece := stream.read(_PIECE):
        voxels = piece[: max(0, size - found)]
        if kind is not None and len(voxels) % int(kind[1]) == 0:
            bad += int(np.count_nonzero(~np.isfinite(np.frombuffer(voxels, order + kind))))
        found += len(piece)
    return found, bad


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(
        f"The file is damaged or truncated ({reason}).", where=path, remedy="Copy or export it again."
    )
