"""Writing a converted case, and remembering what it was made from so that it is made only once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.errors import DocumentError, UsageError
from autospine.core.geometry import Triple
from autospine.io import documents
from autospine.io.files import storage_errors
from autospine.io.images import image_stem, is_image, write_image
from autospine.io.raw_dataset import DOCUMENT, image_path, label_path, save_dataset

from .reading import ScanContent, read_scan
from .scans import SourceScan

#: Folder of the records, one a case.
RECORDS: Final = "conversion"


@dataclass(frozen=True)
class CaseRecord:
    """What was written for a case, and from what.

    Args:
        identifier: The case.
        fingerprint: Of the source files and settings.
        test: Whether it is a test case.
        files: SHA-256 of each written file, by path below the data set's folder.
        patient: See ``autospine.core.dataset.Case``, like the next two.
        source: Which data set it comes from.
        licence: Its licence.
        orientation: Axis codes of the original file.
        centroids: LPS world positions (x, y, z) in mm by label.
        notes: Remarks for the report.
    """

    identifier: str
    fingerprint: str
    test: bool
    files: Mapping[str, str]
    patient: str
    source: str
    licence: str
    orientation: str
    centroids: Mapping[int, Triple]
    notes: tuple[str, ...]


def convert_scan(scan: SourceScan, target: Path) -> tuple[CaseRecord, bool]:
    """Convert one scan, or keep it when its source and its files have not changed.

    Returns:
        The case's record and whether its files were kept.

    Raises:
        DataError: The scan or its mask cannot be used; what an earlier conversion wrote of it is removed.
        StorageError: The disk refuses.
    """
    fingerprint = scan.fingerprint()
    known = read_record(target, scan.identifier)
    if known is not None and known.fingerprint == fingerprint and _intact(known, target):
        return known, True
    remove_case(target, scan.identifier)
    content = read_scan(scan)
    files = _write(scan, content, target)
    record = CaseRecord(
        scan.identifier,
        fingerprint,
        scan.test,
        {str(path.relative_to(target)): _digest(path) for path in files},
        scan.patient,
        scan.source,
        scan.licence,
        content.orientation,
        content.centroids,
        content.notes,
    )
    documents.save(_record_path(target, scan.identifier), record)
    return record, False


def read_record(target: Path, identifier: str) -> CaseRecord | None:
    """A case's record; None when there is none or it is damaged, so that the case is converted anew."""
    path = _record_path(target, identifier)
    try:
        return documents.load(path, CaseRecord) if path.is_file() else None
    except DocumentError:
        return None


def read_records(target: Path) -> list[CaseRecord]:
    """The records of all cases in a data set, by identifier."""
    names = sorted(path.stem for path in (target / RECORDS).glob("*.json"))
    return [record for name in names if (record := read_record(target, name)) is not None]


def remove_case(target: Path, identifier: str) -> None:
    """Remove what an earlier conversion wrote of a case.

    Raises:
        StorageError: The disk refuses.
    """
    with storage_errors(target):
        for test in (False, True):
            image_path(target, identifier, test=test).unlink(missing_ok=True)
            label_path(target, identifier, test=test).unlink(missing_ok=True)
        _record_path(target, identifier).unlink(missing_ok=True)


def require_own(target: Path, identifiers: set[str]) -> None:
    """Refuse a folder that holds another data set.

    Args:
        target: The output folder, existing or not.
        identifiers: Cases about to be converted; an interrupted run may have left files of theirs.

    Raises:
        UsageError: There is an image or a ``dataset.json`` that no conversion has written.
    """
    known = {path.stem for path in (target / RECORDS).glob("*.json")} | identifiers
    strangers = [
        path
        for name in ("imagesTr", "imagesTs")
        for path in sorted((target / name).glob("*"))
        if is_image(path) and image_stem(path).removesuffix("_0000") not in known
    ]
    if (target / DOCUMENT).is_file() and not (target / RECORDS).is_dir():
        strangers.insert(0, target / DOCUMENT)
    if strangers:
        raise UsageError(
            "The output folder holds another data set.",
            where=strangers[0],
            remedy="Choose an empty folder, or one that this command has written.",
        )


def write_document(target: Path, records: list[CaseRecord]) -> None:
    """Write ``dataset.json`` for the cases of ``records``.

    Raises:
        StorageError: The disk refuses.
    """
    dataset = Dataset(
        target.resolve().name,
        LabelSchema.vertebral_column(),
        tuple(_case(record, target) for record in records if not record.test),
        tuple(_case(record, target) for record in records if record.test),
    )
    save_dataset(target, dataset, {record.identifier: record.orientation for record in records})


def _case(record: CaseRecord, target: Path) -> Case:
    image = image_path(target, record.identifier, test=record.test)
    return Case(
        record.identifier, image, None, record.patient, record.source, record.licence, record.centroids
    )


def _write(scan: SourceScan, content: ScanContent, target: Path) -> list[Path]:
    image = image_path(target, scan.identifier, test=scan.test)
    write_image(image, content.image.array[0], content.image.grid)
    if content.mask is None:
        return [image]
    label = label_path(target, scan.identifier, test=scan.test)
    write_image(label, content.mask, content.image.grid)
    return [image, label]


def _intact(record: CaseRecord, target: Path) -> bool:
    paths = {target / name: digest for name, digest in record.files.items()}
    return all(path.is_file() and _digest(path) == digest for path, digest in paths.items())


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _record_path(target: Path, identifier: str) -> Path:
    return target / RECORDS / f"{identifier}.json"
