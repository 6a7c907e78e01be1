"""``run.json``: on what, with what and how long a run has worked."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from autospine import __version__
from autospine.io import documents

_LIBRARIES: Final = ("torch", "numpy", "scipy", "SimpleITK", "batchgenerators", "blosc2")


@dataclass(frozen=True)
class Session:
    """One call of a command on the run.

    Args:
        command: As it was typed.
        started: UTC, ISO 8601.
        versions: Of autospine, Python and the libraries that compute.
        seconds: Duration of each step that did something.
    """

    command: tuple[str, ...]
    started: str
    versions: Mapping[str, str]
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """All calls on a run, oldest first, and the data set it works on."""

    dataset: str
    sessions: tuple[Session, ...] = ()


@dataclass
class Journal:
    """Keeps a run's record up to date on disk.

    Args:
        path: Of ``run.json``.
        record: What stands in it.
    """

    path: Path
    record: RunRecord

    @classmethod
    def begin(cls, path: Path, dataset: Path) -> Journal:
        """Add a session for this process.

        Raises:
            DocumentError: The record is damaged.
            StorageError: The disk refuses.
        """
        earlier = documents.load(path, RunRecord).sessions if path.is_file() else ()
        session = Session(tuple(sys.argv), datetime.now(UTC).isoformat(timespec="seconds"), _versions())
        journal = cls(path, RunRecord(str(dataset.resolve()), (*earlier, session)))
        documents.save(path, journal.record)
        return journal

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step; its duration is written when it ends well."""
        started = time.monotonic()
        yield
        session = self.record.sessions[-1]
        seconds = {**session.seconds, name: round(time.monotonic() - started, 1)}
        last = replace(session, seconds=seconds)
        self.record = replace(self.record, sessions=(*self.record.sessions[:-1], last))
        documents.save(self.path, self.record)


def recorded_dataset(path: Path) -> Path:
    """The data set a run works on.

    Raises:
        DocumentError: There is no record.
    """
    return Path(documents.load(path, RunRecord).dataset)


def _versions() -> dict[str, str]:
    versions = {"autospine": __version__, "python": platform.python_version()}
    return versions | {library: version(library) for library in _LIBRARIES}
