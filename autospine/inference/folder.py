"""Prediction of many scans into a folder, one file each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from autospine.core.anchor import NO_ANCHORS, Anchors
from autospine.core.errors import AutospineError, StorageError
from autospine.host_memory import host_memory
from autospine.inference.memory import USUAL_SHARE
from autospine.inference.predictor import Predictor
from autospine.io.checks import check_image
from autospine.io.column_reports import load_report, report_path
from autospine.io.documents import save
from autospine.io.files import make_folder
from autospine.io.images import read_image, write_image
from autospine.io.parallel import parallel_map
from autospine.io.scans import ScanFile
from autospine.reporting import Reporter


@dataclass(frozen=True)
class ScanReport:
    """What became of one scan.

    Args:
        name: Of the scan.
        source: Its file.
        seconds: From reading to writing; None when nothing was done.
        slices: Slices along the file's third axis.
        seconds_per_slice: The one by the other.
        peak_planned: Bytes of memory that it was expected to take at most.
        error: Why there is no prediction; empty otherwise.
        doubts: Why a person should look at the names again.
    """

    name: str
    source: str
    seconds: float | None
    slices: int = 0
    seconds_per_slice: float | None = None
    peak_planned: int | None = None
    error: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderReport:
    """What became of all scans; written as ``prediction_report.json`` beside the masks.

    Args:
        scans: One entry each.
        device: Where the networks ran.
        threads: Of the processor, for each scan.
    """

    scans: tuple[ScanReport, ...]
    device: str = ""
    threads: int = 0

    @property
    def failed(self) -> tuple[ScanReport, ...]:
        """The scans without a prediction."""
        return tuple(scan for scan in self.scans if scan.error)


@dataclass(frozen=True)
class Work:
    """What becomes of scans, whichever they are.

    Args:
        predictor: The opened model.
        target: Folder of the masks.
        ceiling: Bytes of memory that a process may take; None is the usual share of the machine's, shared
            out among the processes.
        anchors: Known vertebrae, where names are decided by clustering.
        force: Predict scans again whose mask is there already.
        save_probabilities: Keep each configuration's logits at model resolution, in
            ``target/probabilities/CONFIGURATION/NAME``, for ``autospine ensemble``.
        workers: Processes that predict side by side.
    """

    predictor: Predictor
    target: Path
    ceiling: int | None = None
    anchors: Anchors = NO_ANCHORS
    force: bool = False
    save_probabilities: bool = False
    workers: int = 1

    @property
    def memory(self) -> int:
        """Bytes of memory that each process may take."""
        return (self.ceiling or int(USUAL_SHARE * host_memory())) // self.workers


def predict_folder(work: Work, scans: Sequence[ScanFile], reporter: Reporter) -> FolderReport:
    """Predict scans into ``target/NAME.nii.gz``; a broken scan is reported and does not stop the others.

    Beside each mask stands ``NAME_vertebrae.json``, a ``ColumnReport``.

    Args:
        work: What becomes of them.
        scans: What to predict.
        reporter: Where progress is told.

    Raises:
        StorageError: The disk refuses.
        AutospineError: A worker was killed.
    """
    make_folder(work.target)
    parts = shared_out(scans, work.workers)
    threads = max(1, torch.get_num_threads() // len(parts))
    tasks = [_Part(work, part, reporter, threads) for part in parts]
    by_name = {r.name: r for some in parallel_map(_predict_some, tasks, len(tasks)) for r in some}
    reports = [by_name[scan.name] for scan in scans]
    report = FolderReport(tuple(reports), device_name(work.predictor.device), threads)
    save(work.target / "prediction_report.json", report)
    return report


def shared_out(scans: Sequence[ScanFile], workers: int) -> list[tuple[ScanFile, ...]]:
    """Scans in at most ``workers`` parts, none of them empty, whose files are about as large together."""
    if min(workers, len(scans)) <= 1:
        return [tuple(scans)]
    parts: list[list[ScanFile]] = [[] for _ in range(min(workers, len(scans)))]
    sizes = [0] * len(parts)
    for scan in sorted(scans, key=lambda scan: -_size(scan)):
        lightest = sizes.index(min(sizes))
        parts[lightest].append(scan)
        sizes[lightest] += _size(scan) + 1
    return [tuple(part) for part in parts]


@dataclass(frozen=True)
class _Part:
    """What one process does."""

    work: Work
    scans: tuple[ScanFile, ...]
    reporter: Reporter
    threads: int


def _predict_some(part: _Part) -> list[ScanReport]:
    reports = []
    torch.set_num_threads(part.threads)
    with part.reporter.bar(len(part.scans), "predict") as advance:
        for scan in part.scans:
            reports.append(_report_of(part.work, scan, part.reporter))
            advance(scan.name)
    return reports


def _report_of(work: Work, scan: ScanFile, reporter: Reporter) -> ScanReport:
    mask = work.target / f"{scan.name}.nii.gz"
    if mask.is_file() and not work.force:
        known = load_report(work.target, scan.name)
        return ScanReport(scan.name, str(scan.path), None, doubts=known.doubts if known else ())
    try:
        return _predict_file(work, scan, mask, reporter)
    except StorageError:
        raise
    except AutospineError as error:
        return ScanReport(scan.name, str(scan.path), None, error=str(error))
    except torch.cuda.OutOfMemoryError:
        remedy = "The GPU's memory does not suffice: free it, or use --device cpu."
        return ScanReport(scan.name, str(scan.path), None, error=remedy)
    except MemoryError:
        remedy = "The memory does not suffice: give --memory a smaller ceiling, or use fewer --workers."
        return ScanReport(scan.name, str(scan.path), None, error=remedy)


def _predict_file(work: Work, scan: ScanFile, mask: Path, reporter: Reporter) -> ScanReport:
    started, predictor = time.monotonic(), work.predictor
    volume = read_image(scan.path)
    check_image(volume, scan.path)
    way = predictor.begin(volume)
    memory = way.memory(work.memory, work.target)
    reporter.say(f"{scan.name}: {memory}")
    members = way.members(memory.scratch)
    grid = volume.grid
    del volume, way  # what follows needs the memory, not the scan
    decoded = predictor.merge(members, work.anchors.of(scan.name))
    for configuration, prediction in members.items() if work.save_probabilities else ():
        folder = work.target / "probabilities" / configuration
        prediction.save(folder / scan.name)
        shutil.copyfile(predictor.folder.plan, folder / "plan.json")
    del members
    save(report_path(mask.parent, scan.name), decoded.column)
    write_image(mask, decoded.labels, grid)
    seconds, slices = round(time.monotonic() - started, 2), grid.shape[0]
    return ScanReport(
        scan.name,
        str(scan.path),
        seconds,
        slices,
        round(seconds / max(slices, 1), 4),
        peak_planned=memory.peak,
        doubts=decoded.column.doubts,
    )


def _size(scan: ScanFile) -> int:
    try:
        return scan.path.stat().st_size
    except OSError:
        return 0  # reading it will say what is wrong


def device_name(device: torch.device) -> str:
    """The device in words: a GPU's name, or ``"cpu"``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
