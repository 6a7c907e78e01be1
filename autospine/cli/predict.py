"""``autospine predict``: masks of new scans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

if TYPE_CHECKING:
    from autospine.inference.folder import ScanReport


def predict(
    *,
    input: Annotated[tuple[Path, ...], Parameter(name=["--input", "-i"], consume_multiple=True, negative=())],  # noqa: A002
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    model: Annotated[Path, Parameter(name=["--model", "-m"])],
    configurations: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    folds: Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative=())] = (),
    device: str = "auto",
    mirror: bool = True,
    naming: Literal["auto", "sequence", "argmax", "clusters"] = "auto",
    anchor: str | None = None,
    partial: Literal["auto", "keep", "drop"] = "auto",
    save_probabilities: Annotated[bool, Parameter(negative=())] = False,
    memory: str | None = None,
    workers: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1,
    force: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Predict scans with the chosen ensemble; masks come back on each scan's own grid.

    Args:
        input: A scan, a folder of scans, a .txt file with one path a line, or several of these.
        output: Folder of the masks.
        model: Run folder of the training.
        configurations: Use these instead of the chosen ensemble.
        folds: Use these folds instead of all.
        device: auto, cpu, cuda or cuda:1.
        mirror: Average over the mirrorings the plan permits; slower, usually a little better.
        naming: sequence names the whole column at once, argmax each voxel, clusters by an anchor; auto as
            cross-validation chose.
        anchor: For clusters, the first whole vertebra's name (T12) or the last one's (last=L5) in every
            scan, or a .csv table with the columns scan and anchor; without it they are numbered, not named.
        partial: Keep or drop vertebrae that the upper or lower border cuts; auto as the training data do.
        save_probabilities: Keep logits at model resolution as well, for autospine ensemble.
        memory: The most memory it may take, such as 8GB; what does not fit goes to the output folder for the
            while. By default four fifths of the machine's.
        workers: Scans predicted side by side; they share the cores and the memory.
        force: Predict scans again that have a mask in the output folder.
        quiet: Say nothing but the result.
        json: Print the report as JSON.
    """
    from autospine.cli.amounts import parse_bytes
    from autospine.cli.console import say, say_json
    from autospine.core.anchor import NO_ANCHORS
    from autospine.core.run import RunFolder
    from autospine.hardware import choose_device
    from autospine.inference.folder import Work, predict_folder
    from autospine.inference.predictor import Predictor
    from autospine.io.anchors import read_anchors
    from autospine.io.scans import find_scans
    from autospine.reporting import Reporter

    scans = find_scans(input)
    predictor = Predictor.open(
        RunFolder(model),
        choose_device(device),
        configurations=configurations,
        folds=folds,
        mirror=mirror,
        decoding=None if naming == "auto" else naming,
        partial=None if partial == "auto" else partial,
    )
    work = Work(
        predictor,
        output,
        ceiling=None if memory is None else parse_bytes(memory, "--memory"),
        anchors=NO_ANCHORS if anchor is None else read_anchors(anchor),
        force=force,
        save_probabilities=save_probabilities,
        workers=workers,
    )
    report = predict_folder(work, scans, Reporter(quiet=quiet))
    if json:
        say_json(report)
    else:
        say("\n".join(line for scan in report.scans for line in _lines(scan)))
    return 3 if report.failed else 0


def _lines(scan: ScanReport) -> Iterator[str]:
    """What became of a scan, and why its names may be wrong."""
    if scan.error:
        yield f"{scan.name}: {scan.error}"
    elif scan.seconds is None:
        yield f"{scan.name}: there already (--force predicts it again)"
    else:
        yield f"{scan.name}: {scan.seconds:.1f} s, {scan.seconds_per_slice:.3f} s a slice"
    for doubt in scan.doubts:
        yield f"  look again: {doubt}"
