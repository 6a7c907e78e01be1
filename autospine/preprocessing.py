"""From a scan to what a network sees: orient, crop, normalise, resample; and the same for its mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.dataset import Case, Dataset
from autospine.core.errors import AutospineError, DataError, GeometryError, LabelError
from autospine.core.geometry import Box, Grid, Orientation, Triple
from autospine.core.plan import Configuration, Crop, Normalisation, Plan
from autospine.core.trace import Trace
from autospine.core.volume import Volume
from autospine.cropping import body_box, bone_box, nonzero_box
from autospine.io.documents import content_hash
from autospine.io.files import make_folder, remove_partial
from autospine.io.images import read_image, read_labels
from autospine.io.parallel import parallel_map
from autospine.preprocessed import StoredCase, is_complete, save_case
from autospine.resampling import (
    FloatMatrix,
    linear_matrix,
    one_thread,
    resample_image,
    resample_labels,
    resized_shape,
    sample_labels,
    separate_axis,
)
from autospine.vertebrae.border import unlabelled_neighbours

#: Stored in place of a channel index where a mask says "ignore".
IGNORED: Final = -1
_UNKNOWN: Final = -2


def preprocess_image(
    volume: Volume, configuration: Configuration, spine: Box | None = None
) -> tuple[NDArray[np.float32], Trace]:
    """A scan as the configuration's network sees it.

    Normalised before it is resampled, as in nnU-Net.

    Args:
        volume: Intensities of shape (c, z, y, x) on the scan's own grid.
        configuration: Axes, spacing, crop, normalisation and interpolation.
        spine: Where a previous stage has found the spine, on the oriented scan; what the crop ``"spine"``
            keeps. Without one it keeps the body.

    Returns:
        Array of shape (c, *stored shape), and the trace back.

    Raises:
        DataError: The scan has other channels than the configuration.
    """
    trace = trace_of(volume, configuration, spine)
    return image_of(volume, configuration, trace), trace


def trace_of(volume: Volume, configuration: Configuration, spine: Box | None = None) -> Trace:
    """What ``preprocess_image`` will do to a scan; the arguments and errors are the same."""
    if len(volume.array) != len(configuration.normalisation):
        raise DataError(
            f"The scan has {len(volume.array)} channels, the plan {len(configuration.normalisation)}.",
            remedy="Predict scans like those the plan was made for.",
        )
    orientation = Orientation.to_canonical(volume.grid)
    canonical = volume.reoriented(orientation)
    box = _crop_box(canonical, configuration.crop, spine)
    cropped = Orientation.permutation(configuration.axes).apply_grid(canonical.grid.cropped(box))
    target = [t or s for t, s in zip(configuration.spacing, cropped.spacing, strict=True)]
    return Trace(
        grid=volume.grid,
        orientation=orientation,
        box=box,
        axes=configuration.axes,
        shape=resized_shape(cropped.shape, cropped.spacing, target),
        separate_axis=separate_axis(cropped.spacing, target, configuration.separate_axis_ratio),
    )


def image_of(volume: Volume, configuration: Configuration, trace: Trace) -> NDArray[np.float32]:
    """A scan as the configuration's network sees it, (c, *trace.shape), along a trace that is known."""
    canonical = volume.reoriented(trace.orientation)
    cropped = canonical.cropped(trace.box).reoriented(Orientation.permutation(trace.axes))
    # One channel at a time is normalised and resampled, so that no more than one is held twice.
    channels = (normalise(c, n) for c, n in zip(cropped.array, configuration.normalisation, strict=True))
    return resample_image(channels, trace.shape, configuration.image_order, trace.separate_axis)


def preprocess_labels(
    volume: Volume, trace: Trace, classes: Sequence[int], ignore: int | None = None
) -> NDArray[np.int8]:
    """A mask on the stored grid, as channel indices.

    Args:
        volume: Label values of shape (1, z, y, x) on the scan's own grid.
        trace: Of the scan.
        classes: Label value of each channel; the first is background.
        ignore: Value of voxels without a label.

    Returns:
        Channel indices of shape ``trace.shape``, -1 where ignored.

    Raises:
        GeometryError: The mask lies on another grid than the scan, by half a voxel or more.
        LabelError: The mask holds values that are neither classes nor ``ignore``.
    """
    if not trace.grid.matches(volume.grid):
        raise GeometryError(
            f"The mask's grid ({_described(volume)}) is not the scan's "
            f"({trace.grid.shape} voxels of {_rounded(trace.grid.spacing)} mm).",
            remedy="Resample the mask to the scan's grid or correct its header.",
        )
    indices = _channel_indices(volume.array[0], classes, ignore)
    canonical = trace.orientation.apply(indices)[trace.box.slices]
    stored = Orientation.permutation(trace.axes).apply(canonical)
    return resample_labels(stored, trace.shape, trace.separate_axis)


def ignore_border(
    labels: NDArray[np.int8], trace: Trace, levels: Mapping[int, int], centres: Mapping[int, Triple]
) -> None:
    """Mark, in place, what may belong to a vertebra that the border cuts and that nobody labelled.

    Args:
        labels: Channel indices of shape ``trace.shape``.
        trace: Of the scan.
        levels: Anatomical label (1..26) by channel index, of the channels that are vertebrae.
        centres: LPS world positions in mm of the bodies' centres, by channel index.
    """
    table = np.zeros(np.iinfo(np.int8).max + 1, dtype=np.uint8)
    for channel, level in levels.items():
        table[channel] = level
    known = {levels[channel]: centre for channel, centre in centres.items() if channel in levels}
    doubtful = unlabelled_neighbours(table[np.maximum(labels, 0)], trace.stored_grid, known)
    labels[doubtful & (labels == 0)] = IGNORED


def resample_previous(labels: NDArray[np.int8], previous: Trace, trace: Trace) -> NDArray[np.int8]:
    """A class map of one stage on the stored grid of another: linear per class, background outside.

    Args:
        labels: Channel indices of shape ``previous.shape``.
        previous: The trace of the stage that predicted them.
        trace: The trace of the stage that takes them as input; of the same scan.

    Returns:
        Channel indices of shape ``trace.shape``.

    Raises:
        GeometryError: The two traces are not of the same scan.
    """
    if previous.grid != trace.grid:
        raise GeometryError("The previous stage's prediction belongs to another scan.")
    canonical = Orientation.permutation(previous.axes).invert(labels)
    matrices: list[FloatMatrix] = []
    outside: list[NDArray[np.bool_]] = []
    for axis in range(3):
        n_in = canonical.shape[axis]
        positions = previous.stored_positions(axis, trace.canonical_positions(axis))
        matrices.append(linear_matrix(positions, n_in))
        outside.append((positions < -0.5) | (positions > n_in - 0.5))
    result = sample_labels(np.ascontiguousarray(canonical), matrices)
    for axis, beyond in enumerate(outside):
        np.moveaxis(result, axis, 0)[beyond] = 0
    return np.ascontiguousarray(Orientation.permutation(trace.axes).apply(result))


def normalise(channel: NDArray[Any], normalisation: Normalisation) -> NDArray[np.float32]:
    """Clip and standardise by the data set's statistics (``"ct"``) or standardise by the image's own.

    Args:
        channel: Intensities of any shape.
        normalisation: How.

    Returns:
        float32 of the same shape; standard deviations below 1e-8 count as 1e-8.
    """
    values = np.array(channel, dtype=np.float32)
    if normalisation.kind == "ct":
        np.clip(values, normalisation.lower, normalisation.upper, out=values)
        mean, std = normalisation.mean, normalisation.std
    else:
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    values -= np.float32(mean)
    values /= np.float32(max(std, 1e-8))
    return values


def preprocess_dataset(
    dataset: Dataset,
    plan: Plan,
    configuration: Configuration,
    folder: Path,
    workers: int,
    on_case: Callable[[str], None] | None = None,
    spines: Mapping[str, Box | None] | None = None,
) -> None:
    """Preprocess the training cases into a folder, several at a time; what is there already is kept.

    A case is done again when its files or a setting that matters to it have changed. Cases that cannot
    be used are reported together at the end, so that the others are finished by then. The stored
    bytes do not depend on the number of workers.

    Args:
        dataset: The data set.
        plan: The plan.
        configuration: One of the plan's.
        folder: Where the cases go.
        workers: Number of processes.
        on_case: Called with the identifier of each case that is done.
        spines: Where a previous stage has found the spine, by case, for the crop ``"spine"``.

    Raises:
        DataError: Cases cannot be used.
        StorageError: The disk refuses.
        AutospineError: A worker was killed.
    """
    make_folder(folder)
    remove_partial(folder)
    vertebrae = plan.labels.vertebrae if plan.ignore_border else {}
    levels = {channel: vertebrae[value] for channel, value in enumerate(plan.classes) if value in vertebrae}
    tasks = [
        _Task(
            case,
            plan.classes,
            dataset.labels.ignore,
            configuration,
            folder,
            levels,
            (spines or {}).get(case.identifier),
        )
        for case in dataset.training
    ]
    rejected: list[DataError] = []
    for task, error in zip(tasks, parallel_map(_attempt, tasks, workers), strict=True):
        if error is not None:
            rejected.append(error)
        if on_case is not None:
            on_case(task.case.identifier)
    if len(rejected) == 1:
        raise rejected[0]
    if rejected:
        raise DataError(
            f"{len(rejected)} of {len(tasks)} cases cannot be used:\n"
            + "\n".join(str(error) for error in rejected),
            remedy="\nCorrect or remove them and run the same command again.",
        )


@dataclass(frozen=True)
class _Task:
    case: Case
    classes: tuple[int, ...]
    ignore: int | None
    configuration: Configuration
    folder: Path
    levels: Mapping[int, int]
    spine: Box | None = None


def _attempt(task: _Task) -> DataError | None:
    """Preprocess one case; what is wrong with its data is returned, anything else raised."""
    try:
        with one_thread():  # workers share the cores, and sums keep their order
            _preprocess_case(task)
    except DataError as error:
        return type(error)(error.message, where=_place(task.case, error.where), remedy=error.remedy)
    except MemoryError as error:
        raise AutospineError(
            "The memory does not suffice for this case.",
            where=_place(task.case, task.case.image),
            remedy="Run the command again with fewer workers.",
        ) from error
    return None


def _preprocess_case(task: _Task) -> None:
    case, configuration = task.case, task.configuration
    if case.label is None:
        raise DataError("This training case has no mask.", remedy="Add the mask or remove the case.")
    content = _content(task, case.label)
    if is_complete(task.folder, case.identifier, content):
        return
    image, trace = preprocess_image(read_image(case.image), configuration, task.spine)
    labels = preprocess_labels(read_labels(case.label), trace, task.classes, task.ignore)
    centres = {c: case.centroids[value] for c, value in enumerate(task.classes) if value in case.centroids}
    if task.levels:
        ignore_border(labels, trace, task.levels, centres)
    grid = trace.stored_grid
    stored = StoredCase(case.identifier, trace, content, {c: _index(grid, p) for c, p in centres.items()})
    if not is_complete(task.folder, case.identifier, content):  # another process may have been faster
        save_case(task.folder, stored, image, labels, configuration.patch)


def _content(task: _Task, label: Path) -> str:
    """Hash of all that a stored case depends on."""
    c = task.configuration
    settings = (c.axes, c.spacing, c.crop, c.normalisation, c.image_order, c.separate_axis_ratio)
    meaning = task.classes, task.ignore, task.levels, task.case.centroids, task.spine
    return content_hash(settings, meaning, [_state(p) for p in (task.case.image, label)])


def _index(grid: Grid, world: Triple) -> Triple:
    z, y, x = (float(v) for v in grid.to_index(world))
    return (z, y, x)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError("This file cannot be read.", where=path, remedy="Check the data set.") from error
    return status.st_size, status.st_mtime_ns


def _crop_box(canonical: Volume, crop: Crop, spine: Box | None) -> Box:
    if crop == "nonzero":
        return nonzero_box((canonical.array != 0).any(axis=0))
    if crop == "bone":
        return bone_box(canonical.array[0], canonical.grid.spacing)
    if crop == "spine" and spine is not None:
        return spine
    return body_box(canonical.array[0], canonical.grid.spacing)


def _channel_indices(
    values: NDArray[np.integer[Any]], classes: Sequence[int], ignore: int | None
) -> NDArray[np.int8]:
    known = {value: channel for channel, value in enumerate(classes)}
    if ignore is not None:
        known[ignore] = IGNORED
    highest = max(known)
    # One entry more at either end stands for everything below 0 and above the highest known value.
    table = np.full(highest + 3, _UNKNOWN, dtype=np.int8)
    for value, channel in known.items():
        table[value + 1] = channel
    indices: NDArray[np.int8] = table[np.clip(values, -1, highest + 1) + 1]
    unknown = np.unique(values[indices == _UNKNOWN])
    if unknown.size:
        raise LabelError(
            f"The mask holds the values {', '.join(map(str, unknown[:10]))}, which the plan does not know.",
            remedy="Declare them in dataset.json or correct the mask.",
        )
    return indices


def _place(case: Case, where: str | Path | None) -> str:
    return f"case {case.identifier}" + (f" ({where})" if where is not None else "")


def _described(volume: Volume) -> str:
    return f"{volume.grid.shape} voxels of {_rounded(volume.grid.spacing)} mm"


def _rounded(spacing: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(s, 3) for s in spacing)
