"""VerSe'19 and VerSe'20, subject-based or flat, in any mixture and nesting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.core import anatomy
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT
from autospine.io.conversion import ConversionOptions, ConversionReport

from .conversion import run
from .discovery import find_files, nearest, nothing_found
from .patients import is_gl, licence_of, patient_of
from .scans import Discovery, SourceScan
from .verse_names import NamedFile, parse

#: Our label by VerSe id. VerSe annotates neither sacrum (26) nor coccyx (27); they become background.
CODING: Final = {
    verse_id: anatomy.from_verse(verse_id) or 0 for verse_id in (*range(1, 28), anatomy.to_verse(anatomy.T13))
}

_TEST: Final = re.compile(r"(^|[^a-z])test(ing|set)?($|[^a-z])")
_RELEASE: Final = re.compile(r"(?<![a-z])verse[_-]?(?:20)?(19|20)(?!\d)")


@dataclass(frozen=True)
class _Copy:
    """One copy of a series, with the annotation files that belong to it."""

    image: NamedFile
    mask: Path | None
    centroids: NamedFile | None
    release: str
    test: bool

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, Path]:
        """Sorts the copy to take first: annotated, subject-based (native lattice), newer."""
        return (
            self.mask is None,
            self.image.layout == "flat",
            self.centroids is None,
            self.release != "verse20",
            self.image.path,
        )


def convert(source: Path, target: Path, options: ConversionOptions) -> ConversionReport:
    """Convert VerSe to an nnU-Net v2 raw data set.

    Args:
        source: A folder with any part of VerSe'19 and VerSe'20, in either layout, however nested.
        target: The data set's folder.
        options: See ``ConversionOptions``.

    Raises:
        DataError: There is no VerSe scan below ``source``.
        UsageError: ``target`` is ``source`` or holds another data set.
        StorageError: The disk refuses.
    """
    return run(discover(source, target, options), target, options)


def discover(source: Path, target: Path, options: ConversionOptions) -> Discovery:
    """Find every series once, and decide whether it trains or tests.

    Raises:
        DataError: There is no VerSe scan below ``source``.
        UsageError: ``target`` is ``source``.
    """
    files = find_files(source, target)
    named = [file for file in map(parse, files) if file is not None]
    groups: dict[str, list[_Copy]] = {}
    for image in named:
        if image.kind == "image":
            groups.setdefault(image.series, []).append(_copy(image, named, source))
    if not groups:
        looked_for = "sub-*_ct.nii.gz (subject-based) and verse*.nii.gz or GL*.nii.gz (flat)"
        raise nothing_found(source, looked_for, len(files))
    scans: list[SourceScan] = []
    warnings = _masks_without_scan(named, set(groups))
    for _, copies in sorted(groups.items()):
        for identifier, same in _by_direction(copies):
            scans.append(_scan(identifier, same, source, options))
            warnings += _leakage(identifier, same, options)
    excluded = {scan.identifier for scan in scans if options.exclude_gl and is_gl(scan.identifier)}
    kept = tuple(scan for scan in scans if scan.identifier not in excluded)
    return Discovery(kept, tuple(sorted(excluded)), tuple(warnings))


def _copy(image: NamedFile, named: Sequence[NamedFile], source: Path) -> _Copy:
    fitting = [
        file
        for file in named
        if (file.layout, file.series) == (image.layout, image.series)
        and (file.direction == image.direction or not file.direction or not image.direction)
    ]
    masks = {file.path: file for file in fitting if file.kind == "mask"}
    centroids = {file.path: file for file in fitting if file.kind == "centroids"}
    mask = nearest(image.path, list(masks))
    found = nearest(image.path, list(centroids))
    centroid_file = centroids[found] if found else None
    # Only folders from the source on say something: it may well lie below a folder called "test".
    folders = (source.resolve().name, *image.path.relative_to(source).parent.parts)
    release = _release([folder.lower() for folder in folders], centroid_file)
    test = any(_TEST.search(folder.lower()) for folder in folders)
    return _Copy(image, mask, centroid_file, release, test)


def _release(folders: Sequence[str], centroids: NamedFile | None) -> str:
    for folder in reversed(folders):
        if match := _RELEASE.search(folder):
            return f"verse{match[1]}"
    frames = {VERSE19_FLAT: "verse19", VERSE20_FLAT: "verse20"}
    return frames.get(centroids.frame, "verse") if centroids and centroids.frame else "verse"


def _by_direction(copies: Sequence[_Copy]) -> list[tuple[str, list[_Copy]]]:
    """Copies of one scan together; a series reconstructed in several directions is several scans."""
    series = copies[0].image.series
    directions = sorted({copy.image.direction for copy in copies} - {""})
    if len(directions) < 2:
        return [(series, list(copies))]
    plain = [(series, [copy for copy in copies if not copy.image.direction])]
    others = [(f"{series}_{d}", [copy for copy in copies if copy.image.direction == d]) for d in directions]
    return [(identifier, same) for identifier, same in plain + others if same]


def _scan(identifier: str, copies: Sequence[_Copy], source: Path, options: ConversionOptions) -> SourceScan:
    best = min(copies, key=lambda copy: copy.rank)
    held_out = any(copy.test for copy in copies) and not options.include_test
    series = best.image.series
    named_patient = next((copy.image.patient for copy in copies if copy.image.patient), None)
    notes = []
    if len(copies) > 1:
        notes.append(
            f"Found {len(copies)} times, taken from {best.image.path.relative_to(source).as_posix()}."
        )
    if best.mask is None and not any(copy.test for copy in copies):
        notes.append("No mask was found, so this is a test case.")
    return SourceScan(
        identifier,
        best.image.path,
        CODING,
        mask=best.mask,
        centroids=best.centroids.path if best.centroids else None,
        frame=best.centroids.frame if best.centroids else None,
        patient=patient_of(series, named_patient),
        source=best.release,
        licence=licence_of(series),
        test=held_out or best.mask is None,
        notes=tuple(notes),
    )


def _leakage(identifier: str, copies: Sequence[_Copy], options: ConversionOptions) -> list[str]:
    if len({copy.test for copy in copies}) < 2:
        return []
    fate = (
        "it trains, because of --include-test; do not score on it"
        if options.include_test
        else "it is kept as a test case"
    )
    return [f"{identifier} stands in a test split and in another one: {fate}."]


def _masks_without_scan(named: Sequence[NamedFile], series: set[str]) -> list[str]:
    lonely = [file.path.name for file in named if file.kind == "mask" and file.series not in series]
    return [f"{len(lonely)} masks have no scan: {', '.join(lonely[:5])}."] if lonely else []
