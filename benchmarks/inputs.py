"""Synthetic scans that both sides see, made once in the work folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from autospine.cli.main import run
from autospine.core.errors import AutospineError
from autospine.phantom.dataset import write_dataset
from autospine.phantom.recipe import DEFAULT, Recipe

#: Whole columns with what lies close to them: 22 and 24 vertebrae on 15.6 and 16.0 million voxels.
COLUMNS: Final = replace(
    DEFAULT,
    field_of_view="full",
    spacing=(0.8, 0.8),
    anisotropy=(1.0, 1.0),
    width=(90.0, 95.0),
    front=(35.0, 38.0),
    back=(75.0, 78.0),
    max_voxels=60_000_000,
    orientations=("SPL",),
    oblique=3.0,
    curvature=(0.5, 0.8),
    scoliosis=8.0,
    implants=0.0,
    series=0.0,
    cut_circle=0.0,
)
_SEED: Final = 7


def thoracolumbar(work: Path) -> Path:
    """An nnU-Net raw data set with two scans at 0.8 mm that show the thoracic and lumbar spine and the neck.

    Args:
        work: Where inputs are kept.

    Returns:
        The data set's folder, as ``autospine convert-verse`` writes it: 27 classes with the background.
    """
    return converted(work, "Dataset901_Thoracolumbar", COLUMNS, 2, _SEED)


def converted(work: Path, name: str, recipe: Recipe, count: int, seed: int) -> Path:
    """An nnU-Net raw data set of phantoms.

    Args:
        work: Where inputs are kept.
        name: Of the data set and its folder.
        recipe: What to draw.
        count: Number of scans.
        seed: Of the whole data set.

    Raises:
        AutospineError: The conversion has failed.
    """
    folder = work / name
    if not (folder / "dataset.json").is_file():
        source = work / f"{name}_phantoms"
        write_dataset(source, "verse", count, seed, recipe)
        tokens = ["convert-verse", str(source), "--output", str(folder), "--workers", "1", "--quiet"]
        if run(tokens):
            raise AutospineError("The phantoms could not be converted.", where=source)
    return folder


def link_raw(dataset: Path, folder: Path) -> None:
    """Let a data set stand, under its own name, in the folder where nnU-Net looks for raw data."""
    link = folder / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(dataset.resolve(), target_is_directory=True)
