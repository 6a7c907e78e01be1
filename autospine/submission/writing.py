"""Writing a submission: predictions under a challenge's names, in its coding, on its scans' own lattices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import AutospineError, DataError, GeometryError, UsageError
from autospine.core.geometry import Grid
from autospine.core.lattice import on_grid
from autospine.core.volume import Volume
from autospine.io.centroid_files import verse_text
from autospine.io.files import make_folder, remove_partial, write_text
from autospine.io.images import read_grid, read_labels, write_image
from autospine.reporting import Reporter
from autospine.submission.challenge import Challenge, NamedScan
from autospine.submission.predictions import PredictedColumn, PredictedMask, find_predictions, read_column
from autospine.submission.scans import Pairing, find_originals, pair
from autospine.submission.scores import write_scores

#: What may be part of a folder's name everywhere.
_TEAM: Final = re.compile(r"[\w][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class SubmissionOptions:
    """Choices of the user.

    Args:
        team: Name of the team, where the challenge asks for one.
        scans: Folder of the challenge's own scans; None takes names and lattices from the predictions.
        allow_missing: Submit although scans have no prediction.
        force: Replace files that hold something else.
    """

    team: str = ""
    scans: Path | None = None
    allow_missing: bool = False
    force: bool = False


@dataclass(frozen=True)
class WrittenScan:
    """What became of one scan.

    Args:
        name: Of the prediction.
        mask: Its file below the output folder.
        vertebrae: Names of those in the mask, from head to foot.
        kept: Whether its files stood there already.
        remarks: What a person should know.
    """

    name: str
    mask: str
    vertebrae: tuple[str, ...]
    kept: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubmissionReport:
    """A finished submission.

    Args:
        challenge: Its title.
        folder: Where everything stands.
        scans: One entry a scan.
        remarks: What concerns no single scan.
    """

    challenge: str
    folder: str
    scans: tuple[WrittenScan, ...]
    remarks: tuple[str, ...] = ()


def write_submission(
    challenge: Challenge, predictions: Path, output: Path, options: SubmissionOptions, reporter: Reporter
) -> SubmissionReport:
    """Write all predictions as a challenge wants them; files that are right already stay as they are.

    Args:
        challenge: The challenge.
        predictions: Folder of masks ``NAME.nii.gz`` and, beside them, of reports ``NAME_vertebrae.json``.
        output: Where the challenge's folder (``results`` or the like) is made.
        options: See ``SubmissionOptions``.
        reporter: Where progress is told.

    Raises:
        UsageError: The team's name is missing or no name of a folder, or a file holds something else.
        DataError: Scans have no prediction, names are ambiguous, a mask or report is damaged, holds values
            that mean no vertebra, or lies on another lattice than its scan.
        StorageError: The disk refuses.
    """
    check_team(challenge, options.team, required=challenge.needs_team)
    scans = None if options.scans is None else find_originals(challenge, options.scans)
    pairing = pair(challenge, find_predictions(predictions), scans)
    remarks = _complete(pairing, predictions, allow_missing=options.allow_missing)
    remove_partial(make_folder(output))
    written = []
    with reporter.bar(len(pairing.pairs), "submit") as advance:
        for prediction, scan in pairing.pairs:
            written.append(_write(challenge, prediction, scan, output, options))
            advance(prediction.name)
    levels = [(scan.place, done.vertebrae) for (_, scan), done in zip(pairing.pairs, written, strict=True)]
    remarks += write_scores(challenge, output, levels, force=options.force)
    return SubmissionReport(challenge.title, str(output), tuple(written), remarks)


def check_team(challenge: Challenge, team: str, *, required: bool) -> None:
    """Refuse a name that cannot be part of a folder's.

    Raises:
        UsageError: It is missing where it is required, or holds other characters than a folder may.
    """
    if (required or team) and not _TEAM.fullmatch(team):
        raise UsageError(
            f"{team!r} cannot be part of a folder's name." if team else f"{challenge.title} asks for a team.",
            remedy="Give --team a name of letters, digits, dots, hyphens and underscores.",
        )


def _complete(pairing: Pairing, folder: Path, *, allow_missing: bool) -> tuple[str, ...]:
    """Make sure that no scan is forgotten; remarks on what does not pair."""
    missing = [scan.place.name for scan in pairing.missing]
    if missing and (not allow_missing or not pairing.pairs):
        raise DataError(
            f"{len(missing)} of the scans have no prediction: {_some(missing)}.",
            where=folder,
            remedy=f"Predict them first. A prediction is called {' or '.join(pairing.missing[0].aliases)}, "
            "for instance. --allow-missing submits what there is.",
        )
    remarks = [f"Scans without a prediction: {_some(missing)}."] if missing else []
    if pairing.unused:
        remarks.append(f"Predictions of no scan, left out: {_some([p.name for p in pairing.unused])}.")
    return tuple(remarks)


def _write(
    challenge: Challenge,
    prediction: PredictedMask,
    scan: NamedScan,
    output: Path,
    options: SubmissionOptions,
) -> WrittenScan:
    column = read_column(prediction)
    mask, grid = _as_scanned(column.mask, scan, prediction.mask)
    coded = [v for v in column.vertebrae if v.label in challenge.coding]
    place = replace(scan.place, team=options.team)
    path = challenge.mask.fill(place)
    texts: dict[Path, str] = {}
    if challenge.centroids is not None and challenge.frame is not None:
        centres = {vertebra.label: vertebra.centre for vertebra in coded}
        texts[output / challenge.centroids.fill(place)] = verse_text(centres, grid, challenge.frame)
    kept = _store(output / path, _coded(mask, challenge.coding), grid, texts, force=options.force)
    names = tuple(vertebra.name for vertebra in coded)
    return WrittenScan(prediction.name, str(path), names, kept, _remarks(challenge, column))


def _remarks(challenge: Challenge, column: PredictedColumn) -> tuple[str, ...]:
    foreign = [v.name for v in column.vertebrae if v.label not in challenge.coding]
    remarks = []
    if foreign:
        remarks.append(f"{challenge.title} has no code for {', '.join(foreign)}: background in the mask.")
    if column.others:
        values = ", ".join(map(str, column.others))
        remarks.append(f"No vertebrae by the report, background in the mask: {values}.")
    if len(foreign) == len(column.vertebrae):
        remarks.append("There is no vertebra in the mask.")
    return tuple(remarks)


def _as_scanned(mask: Volume, scan: NamedScan, where: Path) -> tuple[NDArray[np.uint8], Grid]:
    """A mask's array (z, y, x) on the lattice of its scan, and that lattice."""
    if scan.path is None:
        return mask.array[0], mask.grid
    grid = read_grid(scan.path)
    try:
        return on_grid(mask, grid), grid
    except GeometryError as error:
        raise GeometryError(f"{error.message} [{scan.path}]", where=where, remedy=error.remedy) from error


def _coded(labels: NDArray[np.uint8], coding: Mapping[int, int]) -> NDArray[np.uint8]:
    """Labels exchanged for a challenge's values; those that have none become background."""
    table = np.zeros(256, np.uint8)
    for label, value in coding.items():
        table[label] = value
    return np.asarray(table[labels])


def _store(
    mask: Path, values: NDArray[np.uint8], grid: Grid, texts: Mapping[Path, str], *, force: bool
) -> bool:
    """Write a mask and the texts that go with it; True when all of them were there already.

    Raises:
        UsageError: One of the files holds something else; then none is written.
    """
    right = {path: _reads(path, text) for path, text in texts.items()} | {mask: _holds(mask, values, grid)}
    other = [path for path, same in right.items() if path.exists() and not same]
    if other and not force:
        raise UsageError(
            "This file holds something else already.",
            where=other[0],
            remedy="Choose another --output, or replace it by --force.",
        )
    for path, text in texts.items():
        if not right[path]:
            write_text(path, text)
    if not right[mask]:
        write_image(mask, values, grid)
    return all(right.values())


def _reads(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _holds(path: Path, values: NDArray[np.uint8], grid: Grid) -> bool:
    """Whether a mask is there, whole and the same."""
    if not path.exists():
        return False
    try:
        found = read_labels(path)
    except AutospineError:
        return False
    return found.grid.same_as(grid) and bool(np.array_equal(found.array[0], values))


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
