"""The contract of data set converters: what they are asked for and what they report.

A converter is a function ``convert(source: Path, target: Path, options: ConversionOptions) ->
ConversionReport``, found by name in the registry's kind ``datasets``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import Field

#: Name of the report in the data set's folder.
REPORT: Final = "conversion_report.json"


@dataclass(frozen=True)
class ConversionOptions:
    """Choices of the user.

    Args:
        workers: Number of processes; None takes one per core, at most 8.
        include_test: Labelled scans of a test split become training cases.
        exclude_gl: Leave out VerSe's ``gl`` scans, whose licence forbids derivatives and commerce.
        intensity_shift: Subtracted from the intensities of xVertSeg; None detects it per scan.
        quiet: Show no progress.
    """

    workers: int | None = None
    include_test: bool = False
    exclude_gl: bool = False
    intensity_shift: int | None = None
    quiet: bool = False


@dataclass(frozen=True)
class BrokenCase:
    """A case that was left out, and why.

    Args:
        case: Its identifier.
        file: The file that is at fault.
        reason: What was found.
        remedy: What can be done.
    """

    case: str
    file: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class ConversionReport:
    """The outcome of a conversion, saved as ``conversion_report.json``.

    Args:
        training: Identifiers of all training cases of the data set, ascending.
        test: Identifiers of all its test cases.
        broken: Cases that were left out.
        warnings: What concerns more than one case.
        notes: Remarks by case.
        reused: How many cases were up to date already; not saved, so that a second run changes nothing.
    """

    training: tuple[str, ...]
    test: tuple[str, ...]
    broken: tuple[BrokenCase, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reused: Annotated[int, Field(exclude=True)] = 0

    @property
    def cases(self) -> int:
        """How many cases the data set has."""
        return len(self.training) + len(self.test)
