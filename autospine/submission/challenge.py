"""What sets one challenge's submission apart from another's: names, codes, and the frame of body centres."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from autospine.io.centroids import CentroidFrame


@dataclass(frozen=True)
class Place:
    """Where in a submission the files of a scan belong.

    Args:
        name: What they are called after.
        folder: Sub-folder, or part of a folder's name; empty where a challenge has none.
        team: Whose submission it is; empty where it does not show.
    """

    name: str
    folder: str = ""
    team: str = ""


@dataclass(frozen=True)
class NamedScan:
    """A scan of a challenge.

    Args:
        place: Where its results belong.
        aliases: What its prediction may be called, the likeliest name first.
        path: Its file; None when only a prediction's name is known.
    """

    place: Place
    aliases: tuple[str, ...]
    path: Path | None = None


@dataclass(frozen=True)
class Template:
    """A path with gaps for the parts of a place, which is filled or read.

    Args:
        text: Parts in slashes, with ``{name}``, ``{folder}`` and ``{team}``.
        names: Regular expression of what a name may be.
    """

    text: str
    names: str = "[^/]+"

    def fill(self, place: Place) -> PurePosixPath:
        """The path of a place."""
        return PurePosixPath(self.text.format(name=place.name, folder=place.folder, team=place.team))

    def read(self, path: PurePosixPath) -> Place | None:
        """The place a path belongs to; None when it does not have this form."""
        found = self._pattern.fullmatch(path.as_posix())
        return Place(**{"name": ""} | found.groupdict()) if found else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pattern = re.escape(self.text)
        for gap, expression in (("name", self.names), ("folder", "[^/]+"), ("team", "[^/]+")):
            pattern = pattern.replace(re.escape(f"{{{gap}}}"), f"(?P<{gap}>{expression})")
        return re.compile(pattern)


@dataclass(frozen=True)
class Challenge:
    """A challenge's rules.

    Args:
        title: What people call it.
        coding: Value in its masks by our label; labels it cannot express are absent.
        mask: Where a mask stands below the output folder.
        centroids: Where a file of body centres stands; None when none is asked for.
        frame: What X, Y and Z mean in it.
        voxels: Where the voxels stand when the mask is a header alone.
        scores: Where the table of fracture scores stands; None when none is asked for.
        recognise: What a file is by its path, among scans below a folder; with None for the folder, what
            a prediction of this name is. None for what is no scan of the challenge.
        examples: Names of its scans, for messages.
    """

    title: str
    coding: Mapping[int, int]
    mask: Template
    recognise: Callable[[Path, Path | None], NamedScan | None]
    examples: str
    centroids: Template | None = None
    frame: CentroidFrame | None = None
    voxels: Template | None = None
    scores: Template | None = None

    @property
    def needs_team(self) -> bool:
        """Whether the team's name is part of the folder's."""
        return "{team}" in self.mask.text

    @property
    def root(self) -> Template:
        """The folder that holds everything."""
        return Template(self.mask.text.partition("/")[0])

    def files(self, place: Place) -> tuple[PurePosixPath, ...]:
        """All files that belong to one scan, tables for several scans included."""
        templates = (self.mask, self.centroids, self.voxels, self.scores)
        return tuple(template.fill(place) for template in templates if template is not None)
