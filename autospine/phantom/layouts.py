"""Where a phantom's files go and what they are called in the published data sets' own layouts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from autospine.core.geometry import Grid, Orientation
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, axis_codes

Layout = Literal["verse", "verse19", "verse20", "xvertseg"]

_THICK: Final = 1.3  # ratio of voxel edges from which a scan counts as sliced in one direction


@dataclass(frozen=True)
class Series:
    """One scan to make.

    Args:
        patient: VerSe id of the patient, ``"verse401"``; for xVertSeg the number.
        name: VerSe id of the series, ``"verse253"``; the patient's own when there is only one.
        test: Whether it belongs to the test split.
        seed: Entropy of the patient.
        repeat: Which of the patient's series it is, from 0.
    """

    patient: str
    name: str
    test: bool
    seed: tuple[int, ...]
    repeat: int


@dataclass(frozen=True)
class Files:
    """The files of one scan; None for those a layout does not have.

    Args:
        image: The scan.
        mask: Its mask.
        centroids: Its body centres.
        facts: What a phantom shows, as a JSON document.
        frame: Frame of the body centres.
    """

    image: Path
    mask: Path | None = None
    centroids: Path | None = None
    facts: Path | None = None
    frame: CentroidFrame | None = None


def roots(layout: Layout) -> tuple[str, ...]:
    """Names of the folders a layout stands in."""
    return {
        "verse": ("dataset-verse19training", "dataset-verse19test"),
        "verse19": ("verse19",),
        "verse20": ("verse20",),
        "xvertseg": ("xVertSeg.v1",),
    }[layout]


def files_of(layout: Layout, folder: Path, series: Series, grid: Grid) -> Files:
    """The files of a scan below ``folder``; VerSe'20 and the centroids depend on the scan's grid."""
    if layout == "verse":
        return _subject_based(folder, series, grid)
    if layout == "verse19":
        split = folder / "verse19" / ("test" if series.test else "training")
        return Files(
            image=split / f"{series.name}.nii.gz",
            mask=split / f"{series.name}_seg.nii.gz",
            centroids=split / f"{series.name}_ctd.json",
            frame=VERSE19_FLAT,
        )
    if layout == "verse20":
        return _verse20(folder, series, grid)
    return _xvertseg(folder, series)


def _subject_based(folder: Path, series: Series, grid: Grid) -> Files:
    root = folder / roots("verse")[series.test]
    subject = f"sub-{series.patient}"
    stem = subject if series.name == series.patient else f"{subject}_split-{series.name}"
    raw, derived = root / "rawdata" / subject, root / "derivatives" / subject
    return Files(
        image=raw / f"{stem}_ct.nii.gz",
        mask=derived / f"{stem}_seg-vert_msk.nii.gz",
        centroids=derived / f"{stem}_seg-subreg_ctd.json",
        facts=raw / f"{stem}_ct.json",
        frame=CentroidFrame(axis_codes(grid)),
    )


def _verse20(folder: Path, series: Series, grid: Grid) -> Files:
    name = series.name if series.name == series.patient else f"{series.patient}_{series.name}"
    root = folder / "verse20" / ("03_test" if series.test else "01_training") / name
    stem = f"{name}_CT-{_slicing(grid)}"
    return Files(
        image=root / f"{stem}.nii.gz",
        mask=root / f"{stem}_seg.nii.gz",
        centroids=root / f"{stem}_iso-ctd.json",
        frame=VERSE20_FLAT,
    )


def _xvertseg(folder: Path, series: Series) -> Files:
    root = folder / "xVertSeg.v1" / ("Data2" if series.test else "Data1")
    image = root / "images" / f"image{series.name}.mhd"
    return Files(image) if series.test else Files(image, root / "masks" / f"mask{series.name}.mhd")


def _slicing(grid: Grid) -> str:
    """VerSe'20's word for the direction of thick slices."""
    z, y, x = Orientation.to_canonical(grid).apply_grid(grid).spacing
    if max(z, y, x) < _THICK * min(z, y, x):
        return "iso"
    return "ax" if z > x else "sag"
