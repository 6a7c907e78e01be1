"""Scans and masks on disk: NIfTI, MetaImage and NRRD through SimpleITK."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from autospine.core.errors import GeometryError, ImageError
from autospine.core.geometry import Grid, matrix_rows
from autospine.core.volume import Volume
from autospine.io.files import atomic_path, make_folder, storage_errors, write_failure
from autospine.io.metaimage import is_metaimage, require_axes
from autospine.io.nifti import is_nifti, require_sound

#: Endings of the formats that are read and written, longest first.
SUFFIXES: Final = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
_AXES: Final = 3


def image_stem(path: Path) -> str:
    """File name without its image ending, ``"case.nii.gz"`` -> ``"case"``."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def is_image(path: Path) -> bool:
    """Whether a file's ending is one of ``SUFFIXES`` (and it is no leftover of a killed process)."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def read_grid(path: Path) -> Grid:
    """The grid of an image, read from its header alone.

    Raises:
        ImageError: The file is no readable 3D image.
        GeometryError: Its header describes no usable lattice.
    """
    reader = _reader(path)
    _require_three_axes(reader.GetDimension(), reader.GetSize(), path)
    return _grid(reader, path)


def read_image(path: Path) -> Volume:
    """A scan with finite values, in the pixel type of its file.

    Returns:
        Volume of shape (1, z, y, x).

    Raises:
        ImageError: The file is no readable 3D image, is truncated, or holds NaN or infinite values.
        GeometryError: Its header describes no usable lattice.
    """
    volume = _read(path)
    if np.issubdtype(volume.array.dtype, np.floating) and not np.isfinite(volume.array).all():
        count = int(volume.array.size - np.isfinite(volume.array).sum())
        raise ImageError(
            f"The image holds {count} NaN or infinite values.",
            where=path,
            remedy="Replace them, for instance by -1024 (air), or leave the scan out.",
        )
    return volume


def read_labels(path: Path) -> Volume:
    """A mask with integer values, whatever pixel type its file has.

    Returns:
        Volume of int32, shape (1, z, y, x).

    Raises:
        ImageError: The file is no readable 3D image or holds fractions.
        GeometryError: Its header describes no usable lattice.
    """
    volume = read_image(path)
    if np.issubdtype(volume.array.dtype, np.integer):
        return Volume(volume.array.astype(np.int32), volume.grid)
    rounded = np.rint(volume.array)
    if np.abs(rounded - volume.array).max() > 1e-3:
        raise ImageError("The mask holds fractions.", where=path, remedy="Masks need whole numbers.")
    return Volume(rounded.astype(np.int32), volume.grid)


def write_image(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write an array (z, y, x) with the header of ``grid``, compressed and atomically.

    A MetaImage header (``.mhd``) gets its voxels, uncompressed, in a ``.raw`` file beside it.

    Raises:
        ImageError: There are values that are not finite.
        StorageError: The disk refuses.
    """
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ImageError("NaN or infinite values cannot be written.", where=path)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction)[:, ::-1].ravel().tolist())
    if path.suffix.lower() == ".mhd":
        _write_header_and_raw(path, image)
        return
    with atomic_path(path) as temporary:
        _write(path, temporary, image, compress=True)


def _write_header_and_raw(path: Path, image: Any) -> None:
    """Write both files under their own names elsewhere, for one names the other, then move them."""
    folder = make_folder(path.parent)
    with storage_errors(path), tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as temporary:
        header = Path(temporary) / path.name
        _write(path, header, image, compress=False)
        raw = header.with_suffix(".raw")
        raw.replace(folder / raw.name)
        header.replace(path)


def _write(path: Path, temporary: Path, image: Any, *, compress: bool) -> None:
    try:
        sitk.WriteImage(image, str(temporary), useCompression=compress)
        if is_nifti(path):
            # ITK's NIfTI writer does not say when the disk is full.
            _require_sound(_reader(temporary), temporary)
    except RuntimeError as error:
        raise write_failure(path, _first_line(error)) from error
    except ImageError as error:
        raise write_failure(path, error.message) from error


def _reader(path: Path) -> Any:
    if not path.is_file():
        raise ImageError("There is no such file.", where=path, remedy="Check the path.")
    if is_metaimage(path):
        require_axes(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _read_failure(path, error) from error
    return reader


def _read(path: Path) -> Volume:
    reader = _reader(path)
    _require_three_axes(reader.GetDimension(), reader.GetSize(), path)
    if reader.GetNumberOfComponents() != 1:
        raise ImageError(
            f"The image has {reader.GetNumberOfComponents()} values per voxel.",
            where=path,
            remedy="Convert it to a scalar image.",
        )
    grid = _grid(reader, path)
    if is_nifti(path):
        _require_sound(reader, path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _read_failure(path, error) from error
    array = sitk.GetArrayFromImage(image).reshape(grid.shape)
    return Volume(array[None], grid)


def _require_sound(reader: Any, path: Path) -> None:
    offset = int(float(reader.GetMetaData("vox_offset")))
    size = math.prod(reader.GetSize()) * int(reader.GetMetaData("bitpix")) // 8
    require_sound(path, offset, size, int(reader.GetMetaData("datatype")))


def _require_three_axes(dimension: int, size: tuple[int, ...], path: Path) -> None:
    real = [n for n in size if n > 1]
    if dimension < _AXES or len(real) > _AXES or min(size) < 1 or any(n > 1 for n in size[_AXES:]):
        raise ImageError(
            f"The image has {dimension} axes of {' x '.join(map(str, size))} voxels, not three.",
            where=path,
            remedy="Give one 3D volume per file.",
        )


def _grid(reader: Any, path: Path) -> Grid:
    n = reader.GetDimension()
    direction = np.asarray(reader.GetDirection()).reshape(n, n)[:_AXES, :_AXES]
    x, y, z = reader.GetSize()[:_AXES]
    sx, sy, sz = reader.GetSpacing()[:_AXES]
    ox, oy, oz = reader.GetOrigin()[:_AXES]
    try:
        return Grid((z, y, x), (sz, sy, sx), (ox, oy, oz), matrix_rows(direction[:, ::-1]))
    except GeometryError as error:
        raise GeometryError(error.message, where=path, remedy=error.remedy) from error


def _read_failure(path: Path, error: RuntimeError) -> Exception:
    text = str(error)
    if "orthonormal" in text or "direction" in text.lower():
        return GeometryError(
            "The header's axes are singular or not perpendicular.",
            where=path,
            remedy="Resample the image to a regular grid or correct its header.",
        )
    return ImageError(
        f"The file is damaged, truncated or no image ({_first_line(error)}).",
        where=path,
        remedy="Copy or export it again.",
    )


def _first_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "unknown cause"
