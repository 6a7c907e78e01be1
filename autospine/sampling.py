"""Which patches a network sees: chosen by the step's number alone, read by batchgenerators' workers.

Batch ``i`` depends on the seed and on ``i``, never on how many workers there are or when the training
was interrupted; so a resumed training sees exactly the patches an uninterrupted one would have seen.
Workers only read and crop; augmentation happens batched on the training device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from numpy.typing import NDArray

from autospine.core.errors import AutospineError, TrainingError
from autospine.io.parallel import end_with_parent
from autospine.io.store import open_array
from autospine.preprocessed import PreprocessedCase, open_case

Batch = dict[str, Any]


@dataclass(frozen=True)
class PatchRequest:
    """What a batch looks like.

    Args:
        patch: Voxels to read along the network's axes, before augmentation crops them.
        final_patch: Voxels that remain after augmentation; the difference may lie outside the scan.
        batch_size: Patches a batch.
        foreground_share: Share of a batch centred on a labelled voxel.
        padding: Value outside the scan, per channel.
        centres: Number of classes whose bodies' centres a batch holds; 0 for none.
    """

    patch: tuple[int, ...]
    final_patch: tuple[int, ...]
    batch_size: int
    foreground_share: float
    padding: tuple[float, ...]
    centres: int = 0

    def is_foreground(self, sample: int) -> bool:
        """Whether a batch's sample is centred on foreground: the last ones are (nnU-Net's rule)."""
        return sample >= round(self.batch_size * (1 - self.foreground_share))


@dataclass(frozen=True)
class CaseFiles:
    """Where one training case is stored, and its previous stage's class map if there is one."""

    folder: Path
    identifier: str
    previous: Path | None = None

    def open(self) -> PreprocessedCase:
        """Open the stored arrays without reading them."""
        return open_case(self.folder, self.identifier)


class PatchLoader(SlimDataLoaderBase):  # type: ignore[misc]
    """Endless batches ``start``, ``start + 1``, … for batchgenerators' augmenters.

    A batch holds ``image`` float32 (b, c, *patch), ``labels`` int8 (b, *patch), ``previous`` int8
    (b, *patch) for a cascade, ``centres`` float32 (b, classes, 3) where asked for, and ``cases``, the
    identifiers.
    """

    def __init__(
        self, cases: Sequence[CaseFiles], request: PatchRequest, seed: Sequence[int], start: int, workers: int
    ) -> None:
        super().__init__(cases, request.batch_size, max(1, workers))
        self.cases = tuple(cases)
        self.request = request
        self.seed = tuple(seed)
        self.start = start
        self._made = 0
        self._owner = os.getpid()
        self._opened: dict[str, PreprocessedCase] = {}

    def generate_train_batch(self) -> Batch:
        """The worker's next batch; an error travels as one, for a dying worker could not say its reason."""
        if self._made == 0 and os.getpid() != self._owner:
            end_with_parent()
        index = self.start + self.thread_id + self._made * self.number_of_threads_in_multithreaded
        self._made += 1
        try:
            return self.batch(index)
        except AutospineError as error:
            return {"error": error}

    def batch(self, index: int) -> Batch:
        """Batch number ``index``."""
        rng = np.random.default_rng((*self.seed, index))
        chosen = [self.cases[i] for i in rng.integers(len(self.cases), size=self.request.batch_size)]
        samples = [self._sample(case, self.request.is_foreground(j), rng) for j, case in enumerate(chosen)]
        batch: Batch = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
        return batch | {"cases": [case.identifier for case in chosen]}

    def _sample(
        self, files: CaseFiles, foreground: bool, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        case = self._open(files)
        centre = _labelled_voxel(case, rng) if foreground else None
        start = patch_start(case.labels.shape, self.request, centre, rng)
        sample = {
            "image": read_patch(case.image, start, self.request.patch, self.request.padding).astype(
                np.float32
            ),
            "labels": read_patch(case.labels, start, self.request.patch, 0),
        }
        if self.request.centres:
            sample["centres"] = centre_offsets(case, start, self.request)
        if files.previous is not None:
            previous = open_array(files.previous / f"{files.identifier}.b2nd")
            sample["previous"] = read_patch(previous, start, self.request.patch, 0)
        return sample

    def _open(self, files: CaseFiles) -> PreprocessedCase:
        if files.identifier not in self._opened:
            self._opened[files.identifier] = files.open()
        return self._opened[files.identifier]


def patch_start(
    shape: Sequence[int],
    request: PatchRequest,
    centre: Sequence[int] | NDArray[Any] | None,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """First voxel of a patch in a case of ``shape``, along all three stored axes.

    A patch may reach over the border by what augmentation will crop away, or as far as it must because
    the case is smaller. Without a ``centre`` it is drawn uniformly.

    Returns:
        Three indices; for a 2D patch the first is the slice.
    """
    thickness = (1,) * (len(shape) - len(request.patch))
    start = []
    for axis, n in enumerate(shape):
        size = (*thickness, *request.patch)[axis]
        final = (*thickness, *request.final_patch)[axis]
        slack = max(size - final, size - n)
        low = -(slack // 2)
        high = max(low, n - size + slack - slack // 2)
        wanted = int(rng.integers(low, high + 1)) if centre is None else int(centre[axis]) - size // 2
        start.append(min(max(wanted, low), high))
    return tuple(start)


def read_patch(
    array: Any, start: Sequence[int], patch: Sequence[int], padding: float | Sequence[float]
) -> NDArray[Any]:
    """Read a patch of a stored array, padded where it reaches over the border.

    Args:
        array: Stored array of shape (z, y, x) or (c, z, y, x).
        start: First voxel along the three stored axes; may be negative.
        patch: Two or three edge lengths; with two, one slice is read and its axis dropped.
        padding: Value outside; one per channel for an array with channels.
    """
    thickness = (1,) * (len(start) - len(patch))
    box = [[a, a + n] for a, n in zip(start, (*thickness, *patch), strict=True)]
    values = list(padding) if isinstance(padding, Sequence) else [padding]
    if array.ndim == len(start):
        result: NDArray[Any] = crop_and_pad_nd(array, box, values[0])
        return result[0] if thickness else result
    channels = [crop_and_pad_nd(array, [[c, c + 1], *box], value)[0] for c, value in enumerate(values)]
    stacked: NDArray[Any] = np.stack(channels)
    return stacked[:, 0] if thickness else stacked


def centre_offsets(
    case: PreprocessedCase, start: Sequence[int], request: PatchRequest
) -> NDArray[np.float32]:
    """Where the bodies' centres lie, in voxels from the middle of a 3D patch.

    Args:
        case: Gives the centres.
        start: First voxel of the patch.
        request: Size of the patch and number of classes.

    Returns:
        Shape (classes, 3); NaN for classes without a known centre.
    """
    middle = np.asarray(start) + (np.asarray(request.patch) - 1) / 2
    offsets = np.full((request.centres, 3), np.nan, dtype=np.float32)
    for channel, centre in case.centres.items():
        offsets[channel] = centre - middle
    return offsets


def _labelled_voxel(case: PreprocessedCase, rng: np.random.Generator) -> NDArray[Any] | None:
    """A voxel of a class drawn uniformly among those of the case; None without any."""
    present = sorted(label for label, voxels in case.locations.items() if len(voxels))
    if not present:
        return None
    voxels = case.locations[present[int(rng.integers(len(present)))]]
    voxel: NDArray[Any] = voxels[int(rng.integers(len(voxels)))]
    return voxel


@contextmanager
def batches(loader: PatchLoader, workers: int) -> Iterator[Iterator[Batch]]:
    """The loader's batches in order, made by ``workers`` processes (in this one when 0).

    Raises:
        TrainingError: A worker died.
        ImageError: A stored case is absent or damaged.
    """
    if workers == 0:
        yield _checked(SingleThreadedAugmenter(loader, None))
        return
    augmenter = MultiThreadedAugmenter(loader, None, workers, wait_time=0.005)
    try:
        yield _checked(_watched(augmenter))
    finally:
        augmenter._finish()  # batchgenerators offers no public way to stop its workers


def _checked(stream: Iterator[Batch]) -> Iterator[Batch]:
    for batch in stream:
        if "error" in batch:
            raise batch["error"]
        yield batch


def _watched(augmenter: MultiThreadedAugmenter) -> Iterator[Batch]:
    while True:
        try:
            batch = next(augmenter)
        except RuntimeError as error:
            codes = [p.exitcode for p in augmenter._processes if p.exitcode not in (None, 0)]
            raise TrainingError(
                f"A loader worker died (exit codes {codes or 'unknown'}; -9 is the kernel out of memory).",
                remedy="Run the same command again to go on; use --schedule.workers 1 if memory is short.",
            ) from error
        yield batch
