"""One scan of a source: its files and everything known about them before they are opened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autospine.core.errors import DataError
from autospine.io.centroids import CentroidFrame
from autospine.io.images import image_stem

#: Enters every fingerprint; raise it when converted files of the same source come out differently.
_FORMAT = 1
_DATA_FILES = (".raw", ".zraw")


@dataclass(frozen=True)
class SourceScan:
    """A scan to convert.

    Args:
        identifier: Name of the case in the converted data set.
        image: The scan's file.
        coding: Label by value of the source's masks; values that become 0 are known and dropped.
        mask: The mask's file, if there is one.
        centroids: The file of body centres, if there is one.
        frame: The frame of that file; None when it names its axes itself.
        patient: See ``autospine.core.dataset.Case``, like the next two.
        source: Which data set it comes from.
        licence: Its licence.
        test: Whether it becomes a test case.
        shift: Subtracted from the intensities; None detects it.
        notes: Remarks for the report.
    """

    identifier: str
    image: Path
    coding: Mapping[int, int]
    mask: Path | None = None
    centroids: Path | None = None
    frame: CentroidFrame | None = None
    patient: str = ""
    source: str = ""
    licence: str = ""
    test: bool = False
    shift: int | None = 0
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the scan is read from."""
        named = [path for path in (self.image, self.mask, self.centroids) if path is not None]
        beside = [path.with_name(image_stem(path) + suffix) for path in named for suffix in _DATA_FILES]
        return (*named, *(path for path in beside if path.is_file()))

    def fingerprint(self) -> str:
        """Hash of the files' names, sizes and times of change, and of how they are to be read.

        Raises:
            DataError: A file has vanished or is out of reach.
        """
        digest = hashlib.sha256()
        settings = (_FORMAT, self.identifier, sorted(self.coding.items()), self.frame, self.patient)
        digest.update(repr((settings, self.source, self.licence, self.test, self.shift, self.notes)).encode())
        for path in self.files:
            try:
                status = path.stat()
            except OSError as error:
                raise DataError(
                    f"The file cannot be read ({error.strerror}).", where=path, remedy="Check the source."
                ) from error
            digest.update(repr((path.name, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Discovery:
    """What was found in a source.

    Args:
        scans: The scans to convert.
        excluded: Identifiers of scans that the options leave out.
        warnings: What concerns more than one scan.
    """

    scans: tuple[SourceScan, ...]
    excluded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
