"""``autospine_convert_verse``: VerSe'19 and VerSe'20 to an nnU-Net v2 raw data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def convert_verse(
    source: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    include_test: Annotated[bool, Parameter(negative=())] = False,
    exclude_gl: Annotated[bool, Parameter(negative=())] = False,
    skip_broken: Annotated[bool, Parameter(negative=())] = False,
    workers: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Convert VerSe'19 and VerSe'20 to an nnU-Net v2 raw data set.

    Both published layouts are understood, subject-based and flat, in any mixture and nesting. Scans are
    brought to one orientation without interpolation. Scans of a test split and scans without a mask become
    test cases. A second run converts only what has changed.

    Args:
        source: Folder with any part of VerSe.
        output: Folder of the converted data set; its name becomes the data set's name.
        include_test: Train on the labelled scans of the test splits, too.
        exclude_gl: Leave out the gl scans, which are licensed CC BY-NC-ND instead of CC BY-SA 4.0.
        skip_broken: Succeed although cases had to be left out.
        workers: Number of processes; by default one per core, at most 8.
        json: Print the report as JSON.
        quiet: Print nothing and show no progress.
    """
    from autospine import registry
    from autospine.cli.conversion_summary import conclude
    from autospine.io.conversion import ConversionOptions

    options = ConversionOptions(
        workers=workers, include_test=include_test, exclude_gl=exclude_gl, quiet=quiet or json
    )
    report = registry.find("datasets", "verse")(source, output, options)
    return conclude(report, output, skip_broken=skip_broken, as_json=json, quiet=quiet)
