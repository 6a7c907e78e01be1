"""VerSe'20: ``results_TEAM/verse512/verse512_CT-iso_seg.nii.gz`` and ``…_ctd.json``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from autospine.io.centroids import VERSE20_FLAT
from autospine.submission.challenge import Challenge, NamedScan, Place, Template
from autospine.submission.verse import CODING, aliases, scan_name

_SUFFIX: Final = re.compile(r"[_-]ct(?![a-z]).*$", re.IGNORECASE)


def _recognise(path: Path, scans: Path | None) -> NamedScan | None:
    name = path.name if scans is None else scan_name(path)
    if not name:
        return None
    # Every scan has a folder of its own; one that stands bare gets the folder its name would have.
    bare = scans is None or path.parent == scans
    folder = _SUFFIX.sub("", name) if bare else path.parent.name
    return NamedScan(Place(name, folder), aliases(name), path if scans else None)


VERSE20: Final = Challenge(
    title="VerSe'20",
    coding=CODING,
    mask=Template("results_{team}/{folder}/{name}_seg.nii.gz"),
    centroids=Template("results_{team}/{folder}/{name}_ctd.json"),
    frame=VERSE20_FLAT,
    recognise=_recognise,
    examples="verse512/verse512_CT-iso.nii.gz",
)
