"""Room for large arrays: in memory while they are small, in a file that nobody sees when they are not."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from autospine.io.files import make_folder, storage_errors

_BLOCK: Final = 2**24
#: Bytes of the largest temporary array in single precision when an array is worked through slab by slab.
_SLAB: Final = 2**26


@dataclass(frozen=True)
class Scratch:
    """Where arrays go that may not fit into memory.

    A file vanishes with the last array that lies in it, and with the process however that ends.

    Args:
        folder: Of the files; None keeps everything in memory.
        largest: Bytes of the largest array that is kept in memory.
    """

    folder: Path | None = None
    largest: int = 0

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """A new array; what it holds is undefined.

        Raises:
            StorageError: The disk refuses, or has not enough room for all of it.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self.folder is None or size <= self.largest:
            return np.empty(tuple(shape), dtype)
        with storage_errors(make_folder(self.folder)), tempfile.TemporaryFile(dir=self.folder) as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, dtype, "r+", shape=tuple(shape)).view(np.ndarray)


IN_MEMORY: Final = Scratch()


def slabs(shape: Sequence[int], arrays: int = 1) -> Iterator[slice]:
    """Parts of the first of three axes, so thin that ``arrays`` float32 copies of one stay small."""
    depth = max(1, _SLAB // (4 * arrays * max(1, math.prod(shape[1:]))))
    for start in range(0, shape[0], depth):
        yield slice(start, min(start + depth, shape[0]))


def _reserve(file: int, size: int) -> None:
    """Take the room now: a full disk would otherwise end the process when the array is written to."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    for start in range(0, size, _BLOCK):
        wanted = min(_BLOCK, size - start)
        if os.write(file, bytes(wanted)) != wanted:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
