"""Where the report on a scan's vertebrae stands: beside its mask."""

from __future__ import annotations

from pathlib import Path

from autospine.core.column_report import ColumnReport
from autospine.io import documents


def report_path(folder: Path, name: str) -> Path:
    """The report of the scan whose mask is ``folder/NAME.nii.gz``."""
    return folder / f"{name}_vertebrae.json"


def load_report(folder: Path, name: str) -> ColumnReport | None:
    """A scan's report; None when there is none.

    Raises:
        DocumentError: It is damaged.
    """
    path = report_path(folder, name)
    return documents.load(path, ColumnReport) if path.is_file() else None
