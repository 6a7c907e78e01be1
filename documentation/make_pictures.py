"""Draws the pictures of this documentation; run it from the repository's root."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from autospine.io.centroids import read_centroids
from autospine.io.images import read_image, read_labels
from autospine.phantom import DEFAULT, generate
from autospine.rendering import overlay_png
from autospine.vertebrae.border import unlabelled_neighbours

PICTURES = Path(__file__).parent / "pictures"
SAMPLES = Path(os.environ.get("AUTOSPINE_SAMPLE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def main() -> None:
    """Draw them all; those of real scans only where the scans are."""
    draw_phantom()
    verse = SAMPLES / "dataset-verse19training"
    if verse.is_dir():
        draw_ignored_border(verse)


def draw_phantom() -> None:
    """Draw a phantom with its labels."""
    recipe = replace(
        DEFAULT, field_of_view="thoracolumbar", spacing=(1.2, 1.2), anisotropy=(1.0, 1.0), noise=(8.0, 8.0)
    )
    phantom = generate(recipe, 4)
    overlay_png(PICTURES / "phantom_overlay.png", phantom.image, phantom.labels.array[0])


def draw_ignored_border(verse: Path) -> None:
    """Draw a scan of VerSe'19 and hatch what training ignores at its border.

    The picture derives from the scan, which is licensed under CC BY-SA 4.0 (Sekuboyina et al., MedIA 2021;
    Löffler et al., Radiology: Artificial Intelligence 2020), and stands under the same licence.
    """
    subject = "sub-verse014"
    scan = read_image(verse / "rawdata" / subject / f"{subject}_ct.nii.gz")
    derived = verse / "derivatives" / subject
    labels = read_labels(derived / f"{subject}_seg-vert_msk.nii.gz").array[0]
    centres = read_centroids(derived / f"{subject}_seg-vb_ctd.json", scan.grid)
    ignored = unlabelled_neighbours(labels, scan.grid, centres)
    title = f"{subject} of VerSe'19 (Sekuboyina et al., Löffler et al.; CC BY-SA 4.0), ignored voxels hatched"
    overlay_png(PICTURES / "ignored_border_verse014.png", scan, labels, title=title, ignored=ignored)


if __name__ == "__main__":
    main()
