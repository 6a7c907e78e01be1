"""xVertSeg.v1: ``Results2/masks/mask016.mhd`` for ``Data2/images/image016.mhd``; a table for the scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from autospine.core import anatomy
from autospine.io.images import image_stem, is_image
from autospine.submission.challenge import Challenge, NamedScan, Place, Template

_SCAN: Final = re.compile(r"image(\d{3})", re.IGNORECASE)
#: Predictions may be called after the scan or as ``convert-xvertseg`` names cases.
_PREDICTION: Final = re.compile(r"(?:image|xvertseg)(\d{3})", re.IGNORECASE)
_DATA: Final = re.compile(r"Data([12])", re.IGNORECASE)
_LAST_OF_DATA1: Final = 15
_NUMBER: Final = r"\d{3}"


def _recognise(path: Path, scans: Path | None) -> NamedScan | None:
    if scans is not None and not is_image(path):
        return None
    named = (_SCAN if scans else _PREDICTION).fullmatch(image_stem(path) if scans else path.name)
    if named is None:
        return None
    number = named[1]
    # Images stand in Data1/images or Data2/images; elsewhere the published numbers tell.
    data = _DATA.fullmatch(path.resolve().parent.parent.name) if scans else None
    folder = data[1] if data else str(1 + (int(number) > _LAST_OF_DATA1))
    return NamedScan(Place(number, folder), (f"image{number}", f"xvertseg{number}"), path if scans else None)


XVERTSEG: Final = Challenge(
    title="xVertSeg",
    coding={anatomy.label_of(f"L{level}"): 190 + 10 * level for level in range(1, 6)},
    mask=Template("Results{folder}/masks/mask{name}.mhd", _NUMBER),
    voxels=Template("Results{folder}/masks/mask{name}.raw", _NUMBER),
    scores=Template("Results{folder}/scores/scores.csv"),
    recognise=_recognise,
    examples="Data2/images/image016.mhd",
)
