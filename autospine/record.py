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
        session: This process's part of it.
    """

    path: Path
    session: Session

    @classmethod
    def begin(cls, path: Path, dataset: Path) -> Journal:
        """Add a session for this process.

        Raises:
            DocumentError: The record is damaged.
            StorageError: The disk refuses.
        """
        earlier = documents.load(path, RunRecord).sessions if path.is_file() else ()
        session = Session(tuple(sys.argv), datetime.now(UTC).isoformat(timespec="seconds"), _versions())
        documents.save(path, RunRecord(str(dataset.resolve()), (*earlier, session)))
        return cls(path, session)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step; its duration is written when it ends well."""
        started = time.monotonic()
        yield
        seconds = {**self.session.seconds, name: round(time.monotonic() - started, 1)}
        before, self.session = self.session, replace(self.session, seconds=seconds)
        # Other folds may be in training beside this one: replace this session, keep theirs.
        known = documents.load(self.path, RunRecord)
        others = tuple(session for session in known.sessions if session != before)
        documents.save(self.path, replace(known, sessions=(*others, self.session)))


def recorded_dataset(path: Path) -> Path:
    """The data set a run works on.

    Raises:
        DocumentError: There is no record.
    """
    return Path(documents.load(path, RunRecord).dataset)


def _versions() -> dict[str, str]:
    versions = {"autospine": __version__, "python": platform.python_version()}
    return versions | {library: version(library) for library in _LIBRARIES}
