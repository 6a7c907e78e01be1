"""A data set's fingerprint: shapes, spacings, intensities and what the labels show, case by case.

Shapes and intensities are measured as nnU-Net v2.8.1 measures them, so that its plans can be reproduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core import anatomy
from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.errors import AutospineError, DataError
from autospine.core.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autospine.core.geometry import Box, Orientation, Triple
from autospine.core.volume import Volume
from autospine.cropping import body_box, nonzero_box
from autospine.intensities import ValueCounts
from autospine.io.checks import check_image, check_mask
from autospine.io.images import read_image, read_labels
from autospine.io.parallel import parallel_map
from autospine.vertebrae.centroids import body_centres
from autospine.vertebrae.volumes import voxel_counts

#: Foreground voxels sampled from all cases together (nnU-Net's number).
SAMPLES: Final = 100_000_000
#: Voxels that a scan's own percentiles are estimated from.
_PERCENTILE_VOXELS: Final = 1_000_000
_AXIS_LETTERS: Final = ("SI", "PA", "LR")


def fingerprint_dataset(
    dataset: Dataset,
    workers: int = 1,
    on_case: Callable[[str], None] | None = None,
    samples: int = SAMPLES,
) -> Fingerprint:
    """Look at every training case once; each worker holds one case at a time.

    Args:
        dataset: The data set.
        workers: Processes; 1 stays in this one.
        on_case: Called with each case's identifier once it and those before it are done.
        samples: Foreground voxels drawn from all cases together.

    Raises:
        DataError: A case is damaged, inconsistent or has undeclared labels, or nothing is labelled.
        AutospineError: A worker process died.
    """
    if not dataset.training:
        raise DataError(f"The data set {dataset.name} has no training cases.", remedy="Add scans with masks.")
    each = samples // len(dataset.training)
    attempt = partial(_attempt, labels=dataset.labels, samples=each)
    found: list[tuple[CaseFingerprint, ValueCounts]] = []
    failures: list[AutospineError] = []
    outcomes = parallel_map(attempt, dataset.training, workers)
    for case, outcome in zip(dataset.training, outcomes, strict=True):
        if isinstance(outcome, AutospineError):
            failures.append(outcome)
        else:
            found.append(outcome)
        if on_case is not None:
            on_case(case.identifier)
    if failures:
        raise _combined(failures)
    return Fingerprint(
        dataset=dataset.name,
        labels=dataset.labels,
        channels=dataset.channels,
        cases=tuple(case for case, _ in found),
        foreground=(_pooled([counts for _, counts in found]),),
    )


def analyse(case: Case, labels: LabelSchema, samples: int) -> tuple[CaseFingerprint, ValueCounts]:
    """One case's fingerprint and ``samples`` values drawn from its labelled voxels.

    Raises:
        DataError: The case is damaged, inconsistent, constant, or has undeclared labels.
    """
    image, mask = _read(case, labels)
    orientation = Orientation.to_canonical(image.grid)
    scan, truth = image.reoriented(orientation), mask.reoriented(orientation)
    voxels, levels = scan.array[0], truth.array[0]
    box, body = nonzero_box(voxels), body_box(voxels, scan.grid.spacing)
    # Drawn in the file's own axis order: nnU-Net does not reorient, and the order decides who is drawn.
    cropped, foreground = (orientation.invert(a[box.slices]) for a in (voxels, levels > 0))
    counts = ValueCounts.sampled(cropped[foreground], samples)
    extents = _extents(levels, labels)
    centres = _centres(case, truth, labels, extents)
    cut = {v: part for v, part in extents.items() if _touches(part, scan.grid.shape)}
    background, bone = _percentiles(voxels, (0.5, 99.9))
    return (
        CaseFingerprint(
            identifier=case.identifier,
            spacing=scan.grid.spacing,
            shape=scan.grid.shape,
            shape_nonzero=_triple(box.shape),
            shape_body=_triple(body.shape),
            orientation=_codes(orientation),
            levels=tuple(extents),
            cut_levels=tuple(cut),
            spine_extent=_spine_extent(extents, scan.grid.spacing),
            body_pitch=_pitch(
                {labels.vertebrae[v]: c for v, c in centres.items() if v in case.centroids or v not in cut}
            ),
            background_hu=background,
            plausible_hu=_plausible(background, bone),
            end_cut_levels=tuple(v for v, part in cut.items() if _touches_end(part, scan.grid.shape)),
            patient=case.group,
            centres=centres,
            volumes=_volumes(levels, tuple(extents), scan.grid.spacing),
        ),
        counts,
    )


_Outcome = tuple[CaseFingerprint, ValueCounts] | AutospineError


def _attempt(case: Case, labels: LabelSchema, samples: int) -> _Outcome:
    try:
        return analyse(case, labels, samples)
    except AutospineError as error:
        return error


def _combined(failures: Sequence[AutospineError]) -> AutospineError:
    if len(failures) == 1:
        return failures[0]
    lines = "".join(f"\n  {failure}" for failure in failures)
    return DataError(
        f"{len(failures)} cases cannot be used:{lines}", remedy="\nCorrect them or leave them out."
    )


def _pooled(tables: Sequence[ValueCounts]) -> Intensities:
    pooled = tables[0]
    for table in tables[1:]:
        pooled = pooled.merged(table)
    if pooled.counts.sum() == 0:
        raise DataError("No voxel of any case is labelled.", remedy="Check the masks.")
    return pooled.statistics()


def _read(case: Case, labels: LabelSchema) -> tuple[Volume, Volume]:
    """Scan and mask; a mask whose origin differs is taken to lie on the scan, as nnU-Net does."""
    if case.label is None:
        raise DataError(f"The training case {case.identifier} has no mask.", where=case.image)
    image, mask = read_image(case.image), read_labels(case.label)
    check_image(image, case.image)
    check_mask(mask, image.grid, labels, case.label)
    return image, Volume(mask.array, image.grid)


def _extents(levels: NDArray[np.int32], labels: LabelSchema) -> dict[int, Box]:
    """Box of every vertebra that occurs, by label."""
    found = ndimage.find_objects(levels, max_label=max(labels.names))
    return {
        value: Box(tuple(s.start for s in part), tuple(s.stop for s in part))
        for value, part in enumerate(found, start=1)
        if part is not None and value != labels.ignore
    }


def _touches(part: Box, shape: Sequence[int]) -> bool:
    return min(part.start) == 0 or any(b == n for b, n in zip(part.stop, shape, strict=True))


def _touches_end(part: Box, shape: Sequence[int]) -> bool:
    return part.start[0] == 0 or part.stop[0] == shape[0]


def _spine_extent(extents: dict[int, Box], spacing: Triple) -> Triple:
    if not extents:
        return (0.0, 0.0, 0.0)
    starts = np.min([part.start for part in extents.values()], axis=0)
    stops = np.max([part.stop for part in extents.values()], axis=0)
    z, y, x = (float(mm) for mm in (stops - starts) * spacing)
    return (z, y, x)


def _centres(case: Case, mask: Volume, labels: LabelSchema, extents: dict[int, Box]) -> dict[int, Triple]:
    """Body centres of the vertebrae that occur: the given ones, the others from their masks."""
    seen = {v: part for v, part in extents.items() if v in labels.vertebrae}
    given = {v: centre for v, centre in case.centroids.items() if v in seen}
    others = [value for value in seen if value not in given]
    return dict(sorted({**body_centres(mask.array[0], mask.grid, others), **given}.items()))


def _pitch(centres: Mapping[int, Triple]) -> float | None:
    """Median distance in mm between neighbours, from body centres by anatomical label."""
    pairs = pairwise(sorted(centres, key=anatomy.rank_of))
    distances = [math.dist(centres[a], centres[b]) for a, b in pairs if b in anatomy.successors(a)]
    return float(np.median(distances)) if distances else None


def _volumes(levels: NDArray[np.int32], present: Sequence[int], spacing: Triple) -> dict[int, float]:
    counts = voxel_counts(levels, int(levels.max()))
    return {value: float(counts[value] * math.prod(spacing)) for value in present}


def _codes(orientation: Orientation) -> str:
    codes = [""] * 3
    for letters, axis, flipped in zip(_AXIS_LETTERS, orientation.axes, orientation.flips, strict=True):
        codes[axis] = letters[flipped]
    return "".join(codes)


def _percentiles(voxels: NDArray[Any], percents: Sequence[float]) -> list[float]:
    flat = voxels.reshape(-1) if voxels.flags.c_contiguous else voxels.ravel(order="K")
    step = max(1, flat.size // _PERCENTILE_VOXELS)
    return [float(value) for value in np.percentile(flat[::step], percents)]


def _plausible(background: float, bone: float) -> bool:
    """Some of a CT scan is fat or air, some of it bone, and fill values seldom lie below -3100."""
    return -3100 <= background <= -50 and bone >= 100


def _triple(shape: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = shape
    return (z, y, x)
