"""Preprocessed cases on disk: four files a case, of which the last one says that it is complete.

::

    FOLDER/CASE.b2nd             image, float16 (c, *stored shape)
           CASE_labels.b2nd      channel indices, int8 (*stored shape); -1 is ignored
           CASE_locations.npz    voxel indices per class, int32 (n, 3)
           CASE.json             the trace back to the scan, the bodies' centres, and a hash of everything
                                 the files depend on

Images are float16: a normalised CT lies within about [-5, 5], where half precision is finer than the
noise of any scanner, and both disk and reading time halve.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.errors import DocumentError, ImageError
from autospine.core.geometry import Triple
from autospine.core.trace import Trace
from autospine.io import documents
from autospine.io.files import atomic_path, storage_errors
from autospine.io.store import open_array, save_array

Locations = Mapping[int, NDArray[np.int32]]

_SEED: Final = 1234
_MIN_SAMPLES: Final = 10_000
_SHARE: Final = 0.01


@dataclass(frozen=True)
class StoredCase:
    """What is known about a preprocessed case.

    Args:
        identifier: The case.
        trace: From the scan to the stored arrays.
        content: Hash of the settings and source files the arrays were made from.
        centres: Voxel coordinates of the vertebral bodies' centres in the stored arrays, by channel index.
    """

    identifier: str
    trace: Trace
    content: str
    centres: Mapping[int, Triple] = field(default_factory=dict)


@dataclass(frozen=True)
class PreprocessedCase:
    """A preprocessed case, opened but not read.

    Args:
        image: Array of shape (c, *stored shape); slices of it are read on demand.
        labels: Channel indices, int8, shape (*stored shape), -1 where ignored; read on demand.
        locations: Voxel indices (n, 3) of each class that occurs, by channel index.
        trace: From the scan to these arrays.
        centres: Voxel coordinates of the vertebral bodies' centres in them, by channel index.
    """

    image: Any
    labels: Any
    locations: Locations
    trace: Trace
    centres: Mapping[int, Triple] = field(default_factory=dict)


def save_case(
    folder: Path,
    case: StoredCase,
    image: NDArray[np.float32],
    labels: NDArray[np.int8],
    patch: tuple[int, ...],
) -> None:
    """Write a case's files, the document last.

    Args:
        folder: Where to.
        case: What the document says.
        image: Shape (c, *stored shape).
        labels: Shape (*stored shape).
        patch: Voxels that training reads at once, along the last two or three axes.

    Raises:
        StorageError: The disk refuses.
    """
    document, image_path, labels_path, locations_path = _paths(folder, case.identifier)
    with storage_errors(document):
        document.unlink(missing_ok=True)  # from now on the case is incomplete
    # Half a patch a side: a patch anywhere touches few chunks and reads little that it does not need.
    chunks = (1,) * (3 - len(patch)) + tuple(max(1, -(-n // 2)) for n in patch)
    save_array(image_path, image.astype(np.float16), (1, *chunks))
    save_array(labels_path, labels, chunks)
    with atomic_path(locations_path) as temporary, temporary.open("wb") as stream:
        arrays: dict[str, Any] = {str(c): voxels for c, voxels in class_locations(labels).items()}
        np.savez_compressed(stream, **arrays)
    documents.save(document, case)


def open_case(folder: Path, identifier: str) -> PreprocessedCase:
    """Open a preprocessed case without reading its arrays.

    Raises:
        DocumentError: The case is absent, incomplete or damaged.
        ImageError: One of its arrays is.
    """
    document, image, labels, locations = _paths(folder, identifier)
    case = documents.load(document, StoredCase)
    arrays = open_array(image), open_array(labels), _load_locations(locations)
    return PreprocessedCase(*arrays, case.trace, case.centres)


def is_complete(folder: Path, identifier: str, content: str) -> bool:
    """Whether a case has been preprocessed from the settings and files that ``content`` stands for."""
    document, *arrays = _paths(folder, identifier)
    if not all(path.is_file() for path in (document, *arrays)):
        return False
    try:
        return documents.load(document, StoredCase).content == content
    except DocumentError:
        return False


def class_locations(labels: NDArray[np.int8]) -> dict[int, NDArray[np.int32]]:
    """Voxels of each class to centre patches on, drawn without replacement from a fixed seed.

    nnU-Net's rule: 10 000 voxels or 1 % of the class, whichever is more, or all where there are fewer.

    Args:
        labels: Channel indices of shape (z, y, x).

    Returns:
        Array indices of shape (n, 3), ascending, by channel index; background and ignored are left out.
    """
    rng = np.random.default_rng(_SEED)
    result = {}
    for label, slices in enumerate(ndimage.find_objects(np.maximum(labels, 0)), start=1):
        if slices is None:
            continue
        inside = labels[slices]
        voxels = np.flatnonzero(inside == label)
        wanted = max(_MIN_SAMPLES, int(np.ceil(_SHARE * voxels.size)))
        if wanted < voxels.size:
            voxels = np.sort(rng.choice(voxels, wanted, replace=False))
        indices = np.stack(np.unravel_index(voxels, inside.shape), axis=1)
        result[label] = (indices + [s.start for s in slices]).astype(np.int32)
    return result


def _load_locations(path: Path) -> dict[int, NDArray[np.int32]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {int(label): stored[label] for label in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(
            f"These class locations cannot be read ({error}).",
            where=path,
            remedy="Delete the file and preprocess again; only this case is made anew.",
        ) from error


def _paths(folder: Path, identifier: str) -> tuple[Path, Path, Path, Path]:
    """Document, image, labels, locations."""
    return (
        folder / f"{identifier}.json",
        folder / f"{identifier}.b2nd",
        folder / f"{identifier}_labels.b2nd",
        folder / f"{identifier}_locations.npz",
    )
