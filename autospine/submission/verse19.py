"""VerSe'19: ``results/verse014_seg.nii.gz`` and ``results/verse014_ctd.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from autospine.io.centroids import VERSE19_FLAT
from autospine.submission.challenge import Challenge, NamedScan, Place, Template
from autospine.submission.verse import CODING, aliases, scan_name


def _recognise(path: Path, scans: Path | None) -> NamedScan | None:
    name = path.name if scans is None else scan_name(path)
    return NamedScan(Place(name), aliases(name), path if scans else None) if name else None


VERSE19: Final = Challenge(
    title="VerSe'19",
    coding=CODING,
    mask=Template("results/{name}_seg.nii.gz"),
    centroids=Template("results/{name}_ctd.json"),
    frame=VERSE19_FLAT,
    recognise=_recognise,
    examples="verse014.nii.gz",
)
