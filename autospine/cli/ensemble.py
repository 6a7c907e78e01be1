"""``autospine ensemble``: merge folders of stored predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def ensemble(
    *,
    input: Annotated[tuple[Path, ...], Parameter(name=["--input", "-i"], consume_multiple=True, negative=())],  # noqa: A002
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    weights: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = (),
    post_processing: Path | None = None,
    naming: Literal["auto", "sequence", "argmax", "clusters"] = "auto",
    anchor: str | None = None,
    force: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Merge predictions that were saved with their probabilities into one folder of masks.

    The softmax of all folders is averaged on each scan's own grid. The folders must hold the same cases
    and classes.

    Args:
        input: Folders probabilities/CONFIGURATION that autospine predict --save-probabilities has written.
        output: Folder for the merged masks, CASE.nii.gz.
        weights: One positive number per folder; equal by default.
        post_processing: An ensemble.json whose post-processing is applied to the merged masks.
        naming: sequence names the whole column at once, argmax each voxel, clusters by an anchor; auto as
            that ensemble.json says, without one as a column if a folder knows where vertebrae are.
        anchor: For clusters, the first whole vertebra's name (T12) or the last one's (last=L5), or a
            .csv table.
        force: Replace masks that are there already.
        quiet: Say nothing.
        json: Print the paths of the masks as JSON.
    """
    from autospine.cli.console import say, say_json
    from autospine.core.anchor import NO_ANCHORS
    from autospine.core.ensemble import Ensemble, PostProcessing
    from autospine.inference.stored import merge_folders
    from autospine.io import documents
    from autospine.io.anchors import read_anchors
    from autospine.reporting import Reporter

    chosen = documents.load(post_processing, Ensemble) if post_processing else None
    filtering = chosen.post_processing if chosen else PostProcessing()
    decoding = (chosen.decoding if chosen else None) if naming == "auto" else naming
    reporter = Reporter(quiet=quiet or json)
    masks = merge_folders(
        input,
        output,
        weights,
        filtering,
        decoding,
        anchors=NO_ANCHORS if anchor is None else read_anchors(anchor),
        force=force,
        reporter=reporter,
    )
    if json:
        say_json([str(path) for path in masks])
    elif not quiet:
        say(f"Merged {len(masks)} cases of {len(input)} folders into {output}.")
    return 0
