"""Where the centres of a case's vertebral bodies come from.

==========  ==================================================================================
prediction  the report ``NAME_vertebrae.json`` beside the mask, else a centroid file, else the mask
reference   the data set's own list, else a centroid file beside the mask, else the mask
==========  ==================================================================================

A centroid file is VerSe's: ``NAME_ctd.json`` beside ``NAME.nii.gz`` or ``NAME_seg.nii.gz``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.errors import DocumentError
from autospine.core.geometry import Grid, Triple
from autospine.evaluation.identification import RADIUS
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, read_centroids
from autospine.io.column_reports import load_report, report_path
from autospine.io.images import image_stem
from autospine.vertebrae.centroids import body_centres

Source = Literal["data set", "report", "centroid file", "mask", "none"]
FlatFrame = Literal["verse19", "verse20"]

_FLAT: Final[Mapping[FlatFrame, CentroidFrame]] = {"verse19": VERSE19_FLAT, "verse20": VERSE20_FLAT}


@dataclass(frozen=True)
class CaseCentres:
    """Body centres and their source.

    Args:
        positions: LPS world position (x, y, z) in mm by autospine's own label.
        source: Where they come from; ``"none"`` if there is no prediction.
    """

    positions: Mapping[int, Triple]
    source: Source


def predicted_centres(
    path: Path | None, labels: NDArray[Any], grid: Grid, flat: FlatFrame | None = None
) -> CaseCentres:
    """Centres of a predicted mask.

    Args:
        path: The mask's file; None if there is no prediction.
        labels: Its values (z, y, x) in autospine's own labels.
        grid: Its lattice.
        flat: Whose frame a centroid file has; by default it counts voxels and names its directions.

    Raises:
        DocumentError: The report or the centroid file is damaged.
    """
    if path is None:
        return CaseCentres({}, "none")
    report = load_report(path.parent, image_stem(path))
    if report is not None:
        where = report_path(path.parent, image_stem(path))
        return CaseCentres({_label(v.name, where): v.centre for v in report.vertebrae}, "report")
    file = centroid_file(path)
    if file is not None:
        return CaseCentres(_read(file, grid, flat), "centroid file")
    return CaseCentres(body_centres(labels, grid), "mask")


def reference_centres(
    path: Path,
    labels: NDArray[Any],
    grid: Grid,
    listed: Mapping[int, Triple] | None = None,
    flat: FlatFrame | None = None,
) -> CaseCentres:
    """Centres of a reference mask.

    Args:
        path: The mask's file.
        labels: Its values (z, y, x) in autospine's own labels.
        grid: Its lattice.
        listed: What the data set lists, LPS mm by autospine's own label.
        flat: Whose frame a centroid file has; by default it counts voxels and names its directions.

    Raises:
        DocumentError: The centroid file is damaged, or puts a vertebra far outside the scan.
    """
    if listed:
        return CaseCentres(listed, "data set")
    file = centroid_file(path)
    if file is None:
        return CaseCentres(body_centres(labels, grid), "mask")
    positions = _read(file, grid, flat)
    _require_inside(positions, grid, file)
    return CaseCentres(positions, "centroid file")


def centroid_file(mask: Path) -> Path | None:
    """VerSe's centroid file beside a mask; None when there is none."""
    stem = image_stem(mask)
    names = dict.fromkeys((stem, stem.removesuffix("_seg")))
    paths = [mask.with_name(f"{name}_ctd.json") for name in names]
    return next((path for path in paths if path.is_file()), None)


def _read(path: Path, grid: Grid, flat: FlatFrame | None) -> dict[int, Triple]:
    try:
        return read_centroids(path, grid, None if flat is None else _FLAT[flat])
    except DocumentError as error:
        raise DocumentError(
            error.message,
            where=path,
            remedy="If it is a flat file, say whose: --flat-centroids verse19 or verse20. "
            "Or remove it, and the centres are taken from the mask.",
        ) from error


def _require_inside(positions: Mapping[int, Triple], grid: Grid, path: Path) -> None:
    """Voxels taken for millimetres, or one axis for another, most often lead out of the scan."""
    last = np.asarray(grid.shape) - 1
    for label, position in positions.items():
        index = grid.to_index(position)
        outside = np.abs(index - np.clip(index, 0, last)) * np.asarray(grid.spacing)
        if outside.max() > RADIUS:
            raise DocumentError(
                f"{anatomy.name_of(label)} lies {outside.max():.0f} mm outside the scan.",
                where=path,
                remedy="If the file counts millimetres, say whose: --flat-centroids verse19 or verse20. "
                "Else check that file and mask belong together.",
            )


def _label(name: str, where: Path) -> int:
    if name not in anatomy.COLUMN:
        raise DocumentError(
            f"There is no vertebra called {name!r}.",
            where=where,
            remedy="Correct the file, or remove it and the centres are taken from the mask.",
        )
    return anatomy.label_of(name)
