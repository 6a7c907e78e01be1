"""What a network says about a scan, at model resolution, and the way back to the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import GeometryError
from autospine.core.trace import Trace
from autospine.io import documents
from autospine.io.files import storage_errors
from autospine.io.scratch import IN_MEMORY, Scratch, slabs
from autospine.io.store import load_array, save_array
from autospine.targets import VECTOR_UNIT

_CENTRES: Final = "_centres.b2nd"
#: A logit this far below the others is as good as never.
_CERTAIN: Final = 1000.0


@dataclass(frozen=True)
class Prediction:
    """Outputs of one model (or the mean over its folds) for one scan.

    Args:
        logits: Shape (classes, *trace.shape), usually float16.
        trace: From the scan to the logits' grid.
        centres: Shape (4, *trace.shape): the heat of being a body's centre, as a logit, and the vector in
            mm along the stored axes to the centre of the voxel's own vertebra; None from a model that
            has not learnt them.
        scratch: Where further arrays of this size go.

    Raises:
        GeometryError: Arrays and trace have different shapes.
    """

    logits: NDArray[Any]
    trace: Trace
    centres: NDArray[Any] | None = None
    scratch: Scratch = IN_MEMORY

    def __post_init__(self) -> None:
        for array in (self.logits, self.logits if self.centres is None else self.centres):
            if array.ndim != 4 or array.shape[1:] != self.trace.shape:
                raise GeometryError(
                    f"Outputs of shape {array.shape} do not fit a stored grid of {self.trace.shape}."
                )

    @classmethod
    def of(
        cls, outputs: NDArray[np.float16], trace: Trace, classes: int, scratch: Scratch = IN_MEMORY
    ) -> Prediction:
        """Tell output channels (channels, *trace.shape) apart; vectors get their unit in place."""
        if len(outputs) == classes:
            return cls(outputs, trace, None, scratch)
        vectors = outputs[classes + 1 :]
        for part in slabs(trace.shape, len(vectors)):
            vectors[:, part] = to_half(vectors[:, part].astype(np.float32) * VECTOR_UNIT)
        return cls(outputs[:classes], trace, outputs[classes:], scratch)

    def with_one_channel_for(self, channels: Sequence[int]) -> Prediction:
        """The same prediction with several classes taken as one, behind the others.

        The softmax of the new channel is the sum of theirs: its logit is the log of their summed odds.
        """
        others = [channel for channel in range(len(self.logits)) if channel not in channels]
        joined = self.scratch.empty((len(others) + 1, *self.trace.shape), np.float32)
        for part in slabs(self.trace.shape, 3):
            joined[:-1, part] = self.logits[others, part]
            joined[-1, part] = log_of_summed_odds([self.logits[channel, part] for channel in channels])
        return Prediction(joined, self.trace, self.centres, self.scratch)

    def spread_over(self, channels: Sequence[int], classes: int) -> Prediction:
        """A prediction of vertebra or not as one of ``classes`` channels that prefers no name.

        The probability of being a vertebra is shared out evenly, so that nothing is said about names and
        ``with_one_channel_for`` gives it back whole.

        Args:
            channels: Those that are vertebrae.
            classes: Number of channels, background included.
        """
        spread = self.scratch.empty((classes, *self.trace.shape), np.float16)
        spread[:] = -_CERTAIN
        spread[0] = to_half(self.logits[0])
        each = to_half(self.logits[1].astype(np.float32) - np.float32(np.log(len(channels))))
        for channel in channels:
            spread[channel] = each
        return Prediction(spread, self.trace, self.centres, self.scratch)

    def foreground_map(self, channels: Sequence[int]) -> NDArray[np.bool_]:
        """Which voxels are more likely one of ``channels``, whichever, than any other class."""
        joined = self.with_one_channel_for(channels)
        best = joined.logits[:-1].max(axis=0)
        return np.asarray(joined.logits[-1] > best)

    def class_map(self) -> NDArray[np.int8]:
        """The most probable class of each voxel, int8 of shape ``trace.shape``; ties go to the lowest."""
        best = self.logits[0].astype(np.float32)
        winner = np.zeros(best.shape, dtype=np.int8)
        # One class at a time: numpy's argmax over half precision is slow, and a float32 copy large.
        for index, channel in enumerate(self.logits[1:], start=1):
            higher = channel > best
            winner[higher] = index
            np.maximum(best, channel, out=best)
        return winner

    def save(self, path: Path) -> None:
        """Write ``<path>.b2nd`` (logits), ``<path>_centres.b2nd``, and then ``<path>.json`` (the trace).

        Args:
            path: Without suffix.

        Raises:
            StorageError: The disk refuses.
        """
        with storage_errors(path):
            # From now on, until the trace is there, the prediction is incomplete.
            for old in stored_files(path)[::-1]:
                old.unlink()
        save_array(_with_suffix(path, ".b2nd"), to_half(self.logits))
        if self.centres is not None:
            save_array(_with_suffix(path, _CENTRES), to_half(self.centres))
        documents.save(_with_suffix(path, ".json"), self.trace)

    @classmethod
    def load(cls, path: Path) -> Prediction:
        """Read what ``save`` wrote.

        Args:
            path: Without suffix.

        Raises:
            DocumentError: The trace is absent or damaged.
            ImageError: The logits are.
        """
        trace = documents.load(_with_suffix(path, ".json"), Trace)
        centres = _with_suffix(path, _CENTRES)
        logits = load_array(_with_suffix(path, ".b2nd"))
        return cls(logits, trace, load_array(centres) if centres.exists() else None)


def stored_files(path: Path) -> list[Path]:
    """The files of a stored prediction, given its path without suffix."""
    files = [_with_suffix(path, suffix) for suffix in (".b2nd", _CENTRES, ".json")]
    return [file for file in files if file.exists()]


def to_half(logits: NDArray[Any]) -> NDArray[np.float16]:
    """Logits in half precision, clipped to its range so that none becomes infinite."""
    limit = float(np.finfo(np.float16).max)
    half: NDArray[np.float16] = np.clip(logits, -limit, limit).astype(np.float16)
    return half


def log_of_summed_odds(logits: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Logarithm of the sum of the exponentials of some logits, all of the same shape."""
    highest = np.full(logits[0].shape, -np.inf, dtype=np.float32)
    for channel in logits:
        np.maximum(highest, channel, out=highest)
    odds = np.zeros_like(highest)
    for channel in logits:
        odds += np.exp(channel - highest)
    return np.asarray(highest + np.log(odds))


def _with_suffix(path: Path, suffix: str) -> Path:
    # A case's name may hold dots, which Path.with_suffix would take for a suffix.
    return path.with_name(path.name + suffix)
