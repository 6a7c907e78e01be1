"""``autospine_phantom``: synthetic spine CT with exact masks, in the layout of a published data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def phantom(
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    layout: Literal["verse", "verse19", "verse20", "xvertseg"] = "verse",
    count: Annotated[int, Parameter(name=("--count", "-n"))] = 8,
    test: int = 0,
    seed: int = 0,
    recipe: Literal["demo", "default"] = "demo",
    view: Annotated[
        tuple[Literal["lumbar", "thoracolumbar", "thoracic", "cervical", "full", "any"], ...],
        Parameter(consume_multiple=True, negative=()),
    ] = (),
    preview: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Make synthetic spine CT scans with exact vertebra masks and body centres.

    The same command again keeps the finished scans and makes the missing ones; scan number k does not depend
    on how many there are.

    Args:
        output: Folder of the data set.
        layout: verse (subject-based), verse19 or verse20 (flat), or xvertseg.
        count: Scans to train on.
        test: Scans of the test split.
        seed: Other seeds give other patients.
        recipe: demo makes small lumbar scans just below 4 mm, default everything the clinic sends.
        view: Part of the column in view, instead of the recipe's own; of several, each scan draws one.
        preview: Also draw a picture of every scan, in the folder preview.
        force: Replace phantoms made with other settings.
        json: Print what was written as JSON.
        quiet: Print nothing.
    """
    from dataclasses import replace

    from autospine.cli.console import say, say_json
    from autospine.core.errors import UsageError
    from autospine.phantom.dataset import write_dataset
    from autospine.phantom.recipe import RECIPES
    from autospine.reporting import Reporter

    if count < 0 or test < 0 or seed < 0:
        raise UsageError("The counts and the seed cannot be negative.", remedy="Give 0 or more.")
    population = RECIPES[recipe] if not view else replace(RECIPES[recipe], field_of_view=view)
    with Reporter(quiet=quiet or json).bar(count + test, "phantoms") as advance:
        written = write_dataset(
            output,
            layout,
            count,
            seed,
            population,
            test=test,
            force=force,
            on_case=lambda case: advance(case.series.name),
        )
    pictures = [_draw(output / "preview", case.files.image, case.files.mask) for case in written if preview]
    fresh = sum(case.fresh for case in written)
    if json:
        scans = [str(case.files.image) for case in written]
        say_json({"scans": scans, "made": fresh, "pictures": [str(picture) for picture in pictures]})
    elif not quiet:
        say(f"{output}: {len(written)} phantoms, {fresh} of them made now.")
    return 0


def _draw(folder: Path, image: Path, mask: Path | None) -> Path:
    """Draw a scan with the labels of its mask, whatever the layout's coding; returns the picture."""
    import numpy as np

    from autospine.core import anatomy
    from autospine.io.images import image_stem, read_image, read_labels
    from autospine.rendering import overlay_png

    volume = read_image(image)
    labels = np.zeros(volume.grid.shape, np.int32) if mask is None else read_labels(mask).array[0]
    if labels.max() >= 200:  # xVertSeg's coding: ten times VerSe's
        labels = labels // 10
    labels[labels == anatomy.to_verse(anatomy.T13)] = anatomy.T13
    picture = folder / f"{image_stem(image)}.png"
    overlay_png(picture, volume, labels, title=image_stem(image))
    return picture
