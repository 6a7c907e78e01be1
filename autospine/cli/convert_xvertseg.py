"""``autospine_convert_xvertseg``: xVertSeg.v1 to an nnU-Net v2 raw data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def convert_xvertseg(
    source: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    intensity_shift: int | None = None,
    skip_broken: Annotated[bool, Parameter(negative=())] = False,
    workers: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Convert xVertSeg.v1 to an nnU-Net v2 raw data set.

    The labelled scans become training cases, the others test cases; the fracture scores are kept in
    scores.json. A second run converts only what has changed.

    Args:
        source: Folder that xVertSeg was unpacked to.
        output: Folder of the converted data set; its name becomes the data set's name.
        intensity_shift: Value to subtract from all intensities to get Hounsfield units, 0 for none;
            by default it is found per scan from where air lies.
        skip_broken: Succeed although cases had to be left out.
        workers: Number of processes; by default one per core, at most 8.
        json: Print the report as JSON.
        quiet: Print nothing and show no progress.
    """
    from autospine import registry
    from autospine.cli.conversion_summary import conclude
    from autospine.io.conversion import ConversionOptions

    options = ConversionOptions(workers=workers, intensity_shift=intensity_shift, quiet=quiet or json)
    report = registry.find("datasets", "xvertseg")(source, output, options)
    return conclude(report, output, skip_broken=skip_broken, as_json=json, quiet=quiet)
