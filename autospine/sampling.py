"""Which patches a network sees: chosen by the step's number alone, read by batchgenerators' workers.

Batch ``i`` depends on the seed and on ``i``, never on how many workers there are or when the training
was interrupted; so a resumed training sees exactly the patches an uninterrupted one would have seen.
Workers only read and crop; augmentation happens batched on the training device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from autospine.core.errors import AutospineError, TrainingError
from autospine.host_memory import keep_freed_memory
from autospine.io.parallel import end_with_parent
from autospine.io.store import open_array
from autospine.patch_reading import PatchRequest, Sample
from autospine.preprocessed import PreprocessedCase, open_case
from autospine.view_samples import draw_sample

__all__ = ["MAPS", "Batch", "CaseFiles", "Margins", "PatchLoader", "PatchRequest", "batches"]

Batch = dict[str, Any]
#: Voxels that each sample of a numbered batch needs beyond the patch, on either side of each axis.
Margins = Callable[[int], Sequence[Sequence[int]]]

#: Cases that a loader keeps open; each takes two of the files, usually 1024, that a process may have.
_MOST_OPEN: Final = 200
#: What a batch holds as a list of arrays, for each sample may have its own size.
MAPS: Final[tuple[str, ...]] = ("image", "labels", "previous")


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

    A batch holds the patches and their margins, of each sample by itself: ``image`` as stored, float16
    (c, *size), ``labels`` int8 (*size) and for a cascade ``previous`` int8 (*size); further ``centres``
    float32 (b, classes, 3) where asked for, and ``cases``, the identifiers.

    Of regions around vertebrae the labels are 1 in the one that is meant and 0 elsewhere, and ``point``
    float32 (b, 1, 3) is where it is said to have its centre, in voxels from the middle of the patch.

    Of a walk the labels are those of the next vertebra alone, ``previous`` is 1 in those that have been dealt
    with, and ``whole`` float32 (b,) tells whether the next one is in view as a whole (1) or cut by the upper
    or lower border (0); NaN where there is none.
    """

    def __init__(
        self,
        cases: Sequence[CaseFiles],
        request: PatchRequest,
        seed: Sequence[int],
        start: int,
        workers: int,
        margins: Margins | None = None,
    ) -> None:
        super().__init__(cases, request.batch_size, max(1, workers))
        self.cases = tuple(cases)
        self.request = request
        self.seed = tuple(seed)
        self.start = start
        self.margins = margins or self._no_margins
        self._made = 0
        self._owner = os.getpid()
        self._opened: dict[str, PreprocessedCase] = {}

    def generate_train_batch(self) -> Batch:
        """The worker's next batch; an error travels as one, for a dying worker could not say its reason."""
        if self._made == 0:
            keep_freed_memory()
            if os.getpid() != self._owner:
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
        samples = [
            self._sample(case, self.request.is_foreground(j), margins, rng)
            for j, (case, margins) in enumerate(zip(chosen, self.margins(index), strict=True))
        ]
        batch: Batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        batch |= {key: np.stack(values) for key, values in batch.items() if key not in MAPS}
        return batch | {"cases": [case.identifier for case in chosen]}

    def _no_margins(self, _: int) -> Sequence[Sequence[int]]:
        return [(0,) * len(self.request.patch)] * self.request.batch_size

    def _sample(
        self, files: CaseFiles, foreground: bool, margins: Sequence[int], rng: np.random.Generator
    ) -> Sample:
        case, previous = self._open(files), None
        if files.previous is not None:
            previous = open_array(files.previous / f"{files.identifier}.b2nd")
        return draw_sample(case, previous, self.request, foreground, margins, rng)

    def _open(self, files: CaseFiles) -> PreprocessedCase:
        if files.identifier not in self._opened:
            if len(self._opened) >= _MOST_OPEN:
                self._opened.pop(next(iter(self._opened)))
            self._opened[files.identifier] = files.open()
        return self._opened[files.identifier]


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
