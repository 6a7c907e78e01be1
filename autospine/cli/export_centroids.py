"""``autospine export-centroids``: the centres of the vertebral bodies, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Format = Literal["verse", "verse19", "verse20", "csv", "slicer"]


def export_centroids(
    *,
    predictions: Annotated[Path, Parameter(name=["--predictions", "-p"])],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    format: Annotated[  # noqa: A002
        tuple[Format, ...], Parameter(name=["--format", "-f"], consume_multiple=True, negative=())
    ] = ("csv",),
    force: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write the centres of the vertebral bodies of predicted masks in one format or several.

    They come from the reports beside the masks; for a mask without one they are found in the mask.

    Args:
        predictions: Folder of masks, as autospine predict leaves it.
        output: Folder for the files.
        format: verse (subject-based, voxels, with a direction entry), verse19 and verse20 (flat, mm), csv
            (one table of all scans, LPS mm) and slicer (3D Slicer's .mrk.json).
        force: Replace files that hold something else.
        quiet: Say nothing.
        json: Print names of the written files and of the vertebrae by scan as JSON.
    """
    from autospine.cli.console import say, say_json
    from autospine.cli.documents import replaceable
    from autospine.io.files import write_text
    from autospine.reporting import Reporter
    from autospine.submission.exporting import export

    result = export(predictions, format, Reporter(quiet=quiet or json))
    for name, text in result.files.items():
        replaceable(output / name, text, force=force)
    for name, text in result.files.items():
        write_text(output / name, text)
    if json:
        say_json({"files": [str(output / name) for name in result.files], "vertebrae": result.vertebrae})
    elif not quiet:
        for scan, vertebrae in result.vertebrae.items():
            say(f"{scan}: {', '.join(vertebrae) or 'no vertebra'}")
    return 0
