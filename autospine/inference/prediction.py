"""What a network says about a scan: logits at model resolution and the way back to the scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import GeometryError
from autospine.core.trace import Trace
from autospine.io import documents
from autospine.io.store import load_array, save_array


@dataclass(frozen=True)
class Prediction:
    """Logits of one model (or the mean over its folds) for one scan.

    Args:
        logits: Shape (classes, *trace.shape), usually float16.
        trace: From the scan to the logits' grid.

    Raises:
        GeometryError: Logits and trace have different shapes.
    """

    logits: NDArray[Any]
    trace: Trace

    def __post_init__(self) -> None:
        if self.logits.ndim != 4 or self.logits.shape[1:] != self.trace.shape:
            raise GeometryError(
                f"Logits of shape {self.logits.shape} do not fit a stored grid of {self.trace.shape}."
            )

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
        """Write ``<path>.b2nd`` (logits, float16) and then ``<path>.json`` (the trace).

        Args:
            path: Without suffix.

        Raises:
            StorageError: The disk refuses.
        """
        save_array(_with_suffix(path, ".b2nd"), to_half(self.logits))
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
        return cls(load_array(_with_suffix(path, ".b2nd")), trace)


def to_half(logits: NDArray[Any]) -> NDArray[np.float16]:
    """Logits in half precision, clipped to its range so that none becomes infinite."""
    limit = float(np.finfo(np.float16).max)
    half: NDArray[np.float16] = np.clip(logits, -limit, limit).astype(np.float16)
    return half


def _with_suffix(path: Path, suffix: str) -> Path:
    # A case's name may hold dots, which Path.with_suffix would take for a suffix.
    return path.with_name(path.name + suffix)
