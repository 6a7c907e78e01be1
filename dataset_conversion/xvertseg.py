"""xVertSeg.v1: lumbar CT in MetaImage format, 15 scans with masks and 10 without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from autospine.core import anatomy
from autospine.io import documents
from autospine.io.conversion import ConversionOptions, ConversionReport
from autospine.io.images import image_stem, is_image

from .conversion import run
from .discovery import find_files, nearest, nothing_found
from .scans import Discovery, SourceScan
from .scores import read_scores

#: Our label by value of the masks: 200, 210, … 240 are L1..L5.
CODING: Final = {200 + 10 * i: anatomy.label_of(f"L{i + 1}") for i in range(5)}

_PREFIX: Final = "xvertseg"
_NAME: Final = re.compile(r"(image|mask)(\d{3})")
_SCORES: Final = "scores.csv"
_RESULTS: Final = re.compile(r"results\d*")  # where participants of the challenge put their own masks


def convert(source: Path, target: Path, options: ConversionOptions) -> ConversionReport:
    """Convert xVertSeg to an nnU-Net v2 raw data set; the scores go to ``scores.json``.

    Args:
        source: The folder xVertSeg was unpacked to, however nested.
        target: The data set's folder.
        options: See ``ConversionOptions``.

    Raises:
        DataError: There is no scan of xVertSeg below ``source``.
        UsageError: ``target`` is ``source`` or holds another data set.
        StorageError: The disk refuses.
    """
    files = find_files(source, target)
    report = run(discover(source, files, options), target, options)
    for table in files:
        if table.name.lower() == _SCORES and not _is_result(table, source):
            documents.save(target / "scores.json", read_scores(table, _PREFIX))
    return report


def discover(source: Path, files: list[Path], options: ConversionOptions) -> Discovery:
    """Pair images and masks by number; images without a mask become test cases.

    Raises:
        DataError: There is no image among ``files``.
    """
    named: dict[tuple[str, str], list[Path]] = {}
    for path in files:
        match = _NAME.fullmatch(image_stem(path).lower())
        if match and is_image(path) and not _is_result(path, source):
            named.setdefault((match[1], match[2]), []).append(path)
    numbers = sorted(number for kind, number in named if kind == "image")
    if not numbers:
        raise nothing_found(source, "image001.mhd … image025.mhd", len(files))
    scans = tuple(
        _scan(number, named["image", number][0], named.get(("mask", number), []), options)
        for number in numbers
    )
    twice = [
        f"image{number} was found more than once." for number in numbers if len(named["image", number]) > 1
    ]
    return Discovery(scans, warnings=tuple(twice))


def _scan(number: str, image: Path, masks: list[Path], options: ConversionOptions) -> SourceScan:
    mask = nearest(image, masks)
    identifier = f"{_PREFIX}{number}"
    return SourceScan(
        identifier,
        image,
        CODING,
        mask=mask,
        patient=identifier,
        source=_PREFIX,
        test=mask is None,
        shift=options.intensity_shift,
    )


def _is_result(path: Path, source: Path) -> bool:
    return any(_RESULTS.fullmatch(part.lower()) for part in path.relative_to(source).parent.parts)
