"""Arrays on disk: compressed, readable in parts, written atomically (blosc2 ``.b2nd``)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import ImageError
from autospine.io.files import atomic_path, write_failure


def save_array(path: Path, array: NDArray[Any], chunks: Sequence[int] | None = None) -> None:
    """Store an array, atomically.

    Args:
        path: Where to, ending in ``.b2nd``.
        array: Any shape.
        chunks: Shape of the pieces that are compressed together; None lets blosc2 choose.

    Raises:
        StorageError: The disk refuses.
    """
    fitted = None if chunks is None else tuple(min(c, n) for c, n in zip(chunks, array.shape, strict=True))
    # Of a chunk that is read in part only the blocks concerned are decompressed.
    blocks = None if fitted is None else tuple(-(-c // 2) for c in fitted[:-1]) + fitted[-1:]
    # Sorting the bytes of values by their significance is in vain, and slow, where each has one byte.
    order = blosc2.Filter.SHUFFLE if array.itemsize > 1 else blosc2.Filter.NOFILTER
    parameters = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "filters": [order], "nthreads": 1}
    with atomic_path(path) as temporary:
        try:
            blosc2.asarray(
                np.ascontiguousarray(array),
                urlpath=str(temporary),
                mode="w",
                chunks=fitted,
                blocks=blocks,
                cparams=parameters,
            )
        except RuntimeError as error:
            raise write_failure(path, str(error)) from error


def open_array(path: Path) -> Any:
    """A stored array, memory-mapped: index it with slices to read only those parts.

    Raises:
        ImageError: The file is absent or damaged.
    """
    try:
        return blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")
    except (FileNotFoundError, RuntimeError, ValueError, OSError) as error:
        raise ImageError(
            f"This stored array cannot be opened ({error}).",
            where=path,
            remedy="Delete it and run the same command again; only this file is made anew.",
        ) from error


def load_array(path: Path) -> NDArray[Any]:
    """A stored array, read whole.

    Raises:
        ImageError: The file is absent or damaged.
    """
    array: NDArray[Any] = open_array(path)[...]
    return array


def remove(path: Path) -> None:
    """Delete a stored array if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
