"""Prediction of many scans into a folder, one file each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from autospine.core.anchor import NO_ANCHORS, Anchor, Anchors
from autospine.core.errors import AutospineError, StorageError
from autospine.inference.predictor import Predictor
from autospine.io.checks import check_image
from autospine.io.column_reports import load_report, report_path
from autospine.io.documents import save
from autospine.io.files import make_folder
from autospine.io.images import read_image, write_image
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
        error: Why there is no prediction; empty otherwise.
        doubts: Why a person should look at the names again.
    """

    name: str
    source: str
    seconds: float | None
    slices: int = 0
    seconds_per_slice: float | None = None
    error: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderReport:
    """What became of all scans; written as ``prediction_report.json`` beside the masks.

    Args:
        scans: One entry each.
        device: Where the networks ran.
        threads: Of the processor.
    """

    scans: tuple[ScanReport, ...]
    device: str = ""
    threads: int = 0

    @property
    def failed(self) -> tuple[ScanReport, ...]:
        """The scans without a prediction."""
        return tuple(scan for scan in self.scans if scan.error)


def predict_folder(
    predictor: Predictor,
    scans: Sequence[ScanFile],
    target: Path,
    reporter: Reporter,
    *,
    anchors: Anchors = NO_ANCHORS,
    force: bool = False,
    save_probabilities: bool = False,
) -> FolderReport:
    """Predict scans into ``target/NAME.nii.gz``; a broken scan is reported and does not stop the others.

    Beside each mask stands ``NAME_vertebrae.json``, a ``ColumnReport``.

    Args:
        predictor: The opened model.
        scans: What to predict.
        target: Folder of the masks.
        reporter: Where progress is told.
        anchors: Known vertebrae, where names are decided by clustering.
        force: Predict scans again whose mask is there already.
        save_probabilities: Keep each configuration's logits at model resolution, in
            ``target/probabilities/CONFIGURATION/NAME``, for ``autospine ensemble``.

    Raises:
        StorageError: The disk refuses.
    """
    make_folder(target)
    reports = []
    with reporter.bar(len(scans), "predict") as advance:
        for scan in scans:
            mask = target / f"{scan.name}.nii.gz"
            if mask.is_file() and not force:
                known = load_report(target, scan.name)
                reports.append(
                    ScanReport(scan.name, str(scan.path), None, doubts=known.doubts if known else ())
                )
            else:
                probabilities = target / "probabilities" if save_probabilities else None
                reports.append(_predict_file(predictor, scan, mask, probabilities, anchors.of(scan.name)))
            advance(scan.name)
    report = FolderReport(tuple(reports), device_name(predictor.device), torch.get_num_threads())
    save(target / "prediction_report.json", report)
    return report


def _predict_file(
    predictor: Predictor, scan: ScanFile, mask: Path, probabilities: Path | None, anchor: Anchor | None
) -> ScanReport:
    started = time.monotonic()
    try:
        volume = read_image(scan.path)
        check_image(volume, scan.path)
        members = predictor.predict_members(volume)
        decoded = predictor.merge(members, anchor)
    except StorageError:
        raise
    except AutospineError as error:
        return ScanReport(scan.name, str(scan.path), None, error=str(error))
    except torch.cuda.OutOfMemoryError:
        remedy = "The GPU's memory does not suffice: free it, or use --device cpu."
        return ScanReport(scan.name, str(scan.path), None, error=remedy)
    for configuration, prediction in members.items() if probabilities else ():
        assert probabilities is not None
        prediction.save(probabilities / configuration / scan.name)
        shutil.copyfile(predictor.folder.plan, probabilities / configuration / "plan.json")
    save(report_path(mask.parent, scan.name), decoded.column)
    write_image(mask, decoded.labels, volume.grid)
    seconds, slices = round(time.monotonic() - started, 2), volume.grid.shape[0]
    pace = round(seconds / max(slices, 1), 4)
    return ScanReport(scan.name, str(scan.path), seconds, slices, pace, doubts=decoded.column.doubts)


def device_name(device: torch.device) -> str:
    """The device in words: a GPU's name, or ``"cpu"``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
