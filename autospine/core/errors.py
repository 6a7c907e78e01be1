"""Every error autospine raises on purpose.

::

    AutospineError                  exit code 1
    ├── UsageError                  exit code 2: the command line asks for something impossible
    │   └── UnknownPluginError      a planner, trainer or network of that name does not exist
    ├── DataError                   exit code 3: the data were rejected
    │   ├── ImageError              a file is no usable image
    │   ├── GeometryError           two grids that should agree do not, or a grid is degenerate
    │   ├── LabelError              a mask holds values nobody declared
    │   └── DocumentError           a JSON document is damaged or of another version
    ├── StorageError                the disk is full, read-only or out of reach
    ├── ResourceError               the memory that may be used does not suffice
    └── TrainingError               the training cannot go on (lost worker, diverged loss)

A message says what was found and where; the remedy says what to do next.
"""

from __future__ import annotations

from pathlib import Path


class AutospineError(Exception):
    """Base of all expected failures; shown to the user without a traceback.

    Args:
        message: What was found, in one sentence.
        where: The file, folder or case it was found in.
        remedy: What the user can do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | Path | None = None, remedy: str = "") -> None:
        super().__init__(message, where, remedy)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes hand errors back by pickle, which calls the class with positional arguments only.
        return _rebuild, (type(self), self.message, self.where, self.remedy)

    def __str__(self) -> str:
        prefix = f"{self.where}: " if self.where is not None else ""
        suffix = f" {self.remedy}" if self.remedy else ""
        return f"{prefix}{self.message}{suffix}"


class UsageError(AutospineError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class UnknownPluginError(UsageError):
    """No plug-in of that name is installed."""


class DataError(AutospineError):
    """The user's data cannot be used as they are."""

    exit_code = 3


class ImageError(DataError):
    """A file is not a readable three-dimensional image with finite values."""


class GeometryError(DataError):
    """A grid is degenerate, or two grids that must agree do not."""


class LabelError(DataError):
    """A segmentation holds labels that the data set does not declare."""


class DocumentError(DataError):
    """A JSON document is damaged, incomplete or written by another version."""


class StorageError(AutospineError):
    """The disk refuses to read or write."""


class ResourceError(AutospineError):
    """The memory that may be used does not suffice."""


class TrainingError(AutospineError):
    """A training cannot go on."""


def _rebuild(
    kind: type[AutospineError], message: str, where: str | Path | None, remedy: str
) -> AutospineError:
    return kind(message, where=where, remedy=remedy)
