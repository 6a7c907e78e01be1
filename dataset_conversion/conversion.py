"""The part that all conversions share: cases in parallel, broken ones reported, the rest assembled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from autospine.core.errors import DataError
from autospine.io import documents
from autospine.io.conversion import REPORT, BrokenCase, ConversionOptions, ConversionReport
from autospine.io.files import make_folder, remove_partial
from autospine.io.parallel import cores, parallel_map
from autospine.io.raw_dataset import image_path, label_path

from .scans import Discovery, SourceScan
from .writing import CaseRecord, convert_scan, read_records, remove_case, require_own, write_document

_MOST_WORKERS = 8

Outcome = tuple[CaseRecord, bool] | BrokenCase


def run(discovery: Discovery, target: Path, options: ConversionOptions) -> ConversionReport:
    """Convert what was discovered and write ``dataset.json`` and the report.

    Cases that earlier conversions have put into ``target`` stay, so that several sources can be brought
    together; of the present source nothing stays that is broken or excluded now.

    Raises:
        UsageError: ``target`` holds a data set of another origin.
        StorageError: The disk refuses; what was finished is kept.
    """
    require_own(target, {scan.identifier for scan in discovery.scans})
    for path in (image_path(target, ""), label_path(target, "")):
        make_folder(path.parent)  # nnU-Net wants both, even for test cases alone
    remove_partial(target)
    for identifier in discovery.excluded:
        remove_case(target, identifier)
    outcomes = list(_outcomes(discovery.scans, target, options))
    broken = [outcome for outcome in outcomes if isinstance(outcome, BrokenCase)]
    records = read_records(target)
    report = ConversionReport(
        training=tuple(record.identifier for record in records if not record.test),
        test=tuple(record.identifier for record in records if record.test),
        broken=tuple(sorted(broken, key=lambda case: case.case)),
        warnings=discovery.warnings + _shared_patients(records),
        notes={record.identifier: record.notes for record in records if record.notes},
        reused=sum(outcome[1] for outcome in outcomes if not isinstance(outcome, BrokenCase)),
    )
    write_document(target, records)
    documents.save(target / REPORT, report)
    return report


def _outcomes(scans: Sequence[SourceScan], target: Path, options: ConversionOptions) -> Iterator[Outcome]:
    workers = options.workers or min(cores(), _MOST_WORKERS)
    results = parallel_map(partial(_attempt, target=target), scans, workers)
    # None: no bar when the output is no terminal.
    return iter(tqdm(results, total=len(scans), unit="case", disable=options.quiet or None))


def _attempt(scan: SourceScan, target: Path) -> Outcome:
    try:
        return convert_scan(scan, target)
    except DataError as error:
        remove_case(target, scan.identifier)
        return BrokenCase(scan.identifier, str(error.where or scan.image), error.message, error.remedy)


def _shared_patients(records: Sequence[CaseRecord]) -> tuple[str, ...]:
    training = {record.patient: record.identifier for record in records if not record.test}
    return tuple(
        f"{record.identifier} (test) and {training[record.patient]} (training) show the same patient, "
        f"{record.patient}: scores on the test case will be too good."
        for record in records
        if record.test and record.patient and record.patient in training
    )
