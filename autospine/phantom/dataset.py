"""A data set of phantoms on disk, in the layout in which VerSe or xVertSeg is published."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count as counting
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.errors import UsageError
from autospine.io import documents
from autospine.io.centroid_files import verse_text
from autospine.io.centroids import CentroidFrame
from autospine.io.files import write_text
from autospine.io.images import write_image
from autospine.phantom.layouts import Files, Layout, Series, files_of, roots
from autospine.phantom.patient import Patient, draw_patient
from autospine.phantom.recipe import DEMO, Recipe
from autospine.phantom.scan import PhantomScan, scan
from autospine.phantom.view import draw_grid

_RECORD: Final = "phantom.json"

#: VerSe's patients with two series, by their numbers; converters know them by these.
_SEVERAL: Final = {
    **{400: (90, 155), 401: (201, 253), 402: (202, 251), 403: (208, 255), 404: (209, 256)},
    **{406: (214, 261), 407: (215, 262), 408: (223, 265), 409: (226, 266), 410: (227, 267)},
    **{411: (232, 270), 412: (235, 290), 413: (239, 272), 414: (241, 273), 415: (243, 275)},
}
_TAKEN: Final = frozenset(n for pair in _SEVERAL.values() for n in pair) | frozenset(range(400, 418))
_FIRST_TEST: Final = 600
_XVERTSEG_SHIFT: Final = 1000
_FLOAT_MASKS: Final = 0.1  # share of the masks stored as float64, as some published ones are


@dataclass(frozen=True)
class Record:
    """What a folder of phantoms was made with.

    Args:
        layout: How it is laid out.
        seed: Of the whole data set.
        recipe: Of the population.
    """

    layout: Layout
    seed: int
    recipe: Recipe


@dataclass(frozen=True)
class Written:
    """One scan on disk.

    Args:
        series: Which one.
        files: Its files.
        fresh: Whether it was made now; False when it was there already.
    """

    series: Series
    files: Files
    fresh: bool


def write_dataset(
    folder: Path,
    layout: Layout = "verse",
    count: int = 8,
    seed: int = 0,
    recipe: Recipe = DEMO,
    *,
    test: int = 0,
    force: bool = False,
    on_case: Callable[[Written], None] | None = None,
) -> tuple[Written, ...]:
    """Write phantoms; scan number k is the same whatever the counts are.

    A folder made with the same layout, seed and recipe is completed: finished scans stay as they are.

    Args:
        folder: Where to.
        layout: ``verse`` (subject-based), ``verse19`` or ``verse20`` (flat), or ``xvertseg``.
        count: Scans with masks for training.
        seed: Of the whole data set.
        recipe: What to draw.
        test: Scans of the test split, with masks except for xVertSeg.
        force: Replace phantoms made with other settings, and write into a folder that holds other things.
        on_case: Called after every scan.

    Raises:
        UsageError: The folder holds something else, or the counts exceed the names there are.
        StorageError: The disk refuses.
    """
    if layout == "xvertseg":
        recipe = replace(recipe, field_of_view="lumbar", orientations=("SPL",), series=0.0)
    record = Record(layout, seed, recipe)
    _claim(folder, record, force=force)
    plan = [*_series(record, count, test=False), *_series(record, test, test=True, first=count + 1)]
    written = []
    for series in plan:
        written.append(_write(folder, record, series))
        if on_case is not None:
            on_case(written[-1])
    if layout == "xvertseg":
        _write_scores(folder, record, [series for series in plan if not series.test])
    return tuple(written)


def _claim(folder: Path, record: Record, *, force: bool) -> None:
    """Make sure that nothing but these phantoms is in the folder, or that the user wants it gone."""
    path = folder / _RECORD
    if path.is_file():
        old = documents.load(path, Record)
        if old != record and not force:
            raise UsageError(
                "This folder holds phantoms made with other settings.",
                where=folder,
                remedy="Choose another folder, or add --force to replace them.",
            )
        if old != record or force:
            for root in roots(old.layout):
                shutil.rmtree(folder / root, ignore_errors=True)
    elif folder.exists() and any(folder.iterdir()) and not force:
        raise UsageError(
            "This folder is not empty.", where=folder, remedy="Choose another folder, or add --force."
        )
    documents.save(path, record)


def _series(record: Record, total: int, *, test: bool, first: int = 1) -> list[Series]:
    """The first ``total`` scans of a split, patient after patient."""
    if record.layout == "xvertseg":
        numbers = [f"{first + k if test else k + 1:03d}" for k in range(total)]
        return [Series(n, n, test, (record.seed, int(test), k), 0) for k, n in enumerate(numbers)]
    endless = _patients(record, test=test)
    return [series for series, _ in zip(endless, range(total), strict=False)]


def _patients(record: Record, *, test: bool) -> Iterator[Series]:
    several = iter(_SEVERAL.items())
    numbers = (n for n in counting(_FIRST_TEST if test else 1) if n not in _TAKEN)
    for index in counting():
        seed = (record.seed, int(test), index)
        twice = not test and np.random.default_rng(seed).random() < record.recipe.series
        pair = next(several, None) if twice else None
        if pair is not None:
            for repeat, series in enumerate(pair[1]):
                yield Series(f"verse{pair[0]:03d}", f"verse{series:03d}", test, seed, repeat)
            continue
        number = next(numbers)
        if number > (999 if test else _FIRST_TEST - 1):
            raise UsageError("There are not that many names for scans.", remedy="Ask for fewer scans.")
        yield Series(f"verse{number:03d}", f"verse{number:03d}", test, seed, 0)


def _write(folder: Path, record: Record, series: Series) -> Written:
    patient = _draw(record, series)
    entropy = (*series.seed, 1, series.repeat)
    grid = draw_grid(patient, record.recipe, np.random.default_rng(entropy))
    planned = files_of(record.layout, folder, series, grid)
    if planned.image.is_file():
        return Written(series, planned, fresh=False)
    phantom = scan(patient, record.recipe, np.random.default_rng(entropy))
    files = files_of(record.layout, folder, series, phantom.image.grid)
    if record.layout == "xvertseg":
        _write_xvertseg(files, phantom)
    else:
        _write_verse(files, phantom, series)
    return Written(series, files, fresh=True)


def _draw(record: Record, series: Series) -> Patient:
    return draw_patient(record.recipe, np.random.default_rng((*series.seed, 0)))


def _write_verse(files: Files, phantom: PhantomScan, series: Series) -> None:
    grid = phantom.image.grid
    mask = _recoded(phantom.labels.array[0], {k: anatomy.to_verse(k) for k in phantom.centroids})
    odd = np.random.default_rng((*series.seed, 2)).random() < _FLOAT_MASKS
    if files.mask is not None:
        write_image(files.mask, mask.astype(np.float64) if odd else mask, grid)
    if files.centroids is not None and files.frame is not None:
        write_text(files.centroids, _centroids(phantom, files.frame))
    if files.facts is not None:
        write_text(files.facts, json.dumps(facts(phantom), indent=1) + "\n")
    write_image(files.image, phantom.image.array[0], grid)  # last: it tells that the scan is complete


def _write_xvertseg(files: Files, phantom: PhantomScan) -> None:
    grid = phantom.image.grid
    if files.mask is not None:
        values = {anatomy.label_of(f"L{level}"): 190 + 10 * level for level in range(1, 6)}
        write_image(files.mask, _recoded(phantom.labels.array[0], values), grid)
    shifted = np.maximum(phantom.image.array[0] + _XVERTSEG_SHIFT, 0).astype(np.int16)
    write_image(files.image, shifted, grid)


def _recoded(labels: NDArray[Any], values: dict[int, int]) -> NDArray[np.uint8]:
    """Labels exchanged for other values; those that have none become background."""
    table = np.zeros(256, np.uint8)
    for label, value in values.items():
        table[label] = value
    return np.asarray(table[labels])


def _centroids(phantom: PhantomScan, frame: CentroidFrame) -> str:
    """VerSe's centroid file, rounded to a tenth as the published ones."""
    return verse_text(phantom.centroids, phantom.image.grid, frame, digits=1)


def facts(phantom: PhantomScan) -> dict[str, Any]:
    """What a phantom shows, for people and for checks: levels, fractures, implants."""
    broken = {
        v.name: {"kind": v.compression, "loss": round(v.loss, 2)}
        for v in phantom.patient.vertebrae
        if v.label in phantom.centroids and v.compression != "none"
    }
    return {
        "dataset": "autospine phantom",
        "labelled": [anatomy.name_of(label) for label in phantom.centroids],
        "partial": [anatomy.name_of(label) for label in phantom.partial],
        "fractures": broken,
        "screws": [anatomy.name_of(label) for label in phantom.patient.screws],
        "marrow_hu": round(phantom.patient.marrow, 1),
    }


def _write_scores(folder: Path, record: Record, plan: list[Series]) -> None:
    """The table of fracture types and Genant grades of all labelled scans."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "vertebra", "type", "grade"])
    for series in plan:
        for vertebra in _draw(record, series).vertebrae:
            if vertebra.name in ("L1", "L2", "L3", "L4", "L5"):
                kind = "normal" if vertebra.compression == "none" else vertebra.compression
                grade = int(np.searchsorted((0.2, 0.25, 0.4), vertebra.loss, side="right"))
                writer.writerow([f"image{series.name}", vertebra.name, kind, grade])
    write_text(folder / roots("xvertseg")[0] / "Data1" / "scores" / "scores.csv", table.getvalue())
