"""``autospine demo``: from scans to scored predictions on phantoms, command by command."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def demo(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo"),
    scans: int = 24,
    unseen: int = 6,
    seed: int = 7,
    device: str = "auto",
) -> int:
    """Make phantom scans, convert, plan, train five folds of every configuration, predict and score.

    Args:
        output: Folder of everything the demo makes; a second call goes on where the first stopped.
        scans: Phantoms to train on.
        unseen: Phantoms to predict.
        seed: Of the phantoms.
        device: auto, cpu, cuda or cuda:1.
    """
    from autospine.cli.console import say
    from autospine.cli.main import run

    started = time.monotonic()
    for tokens in demo_commands(output, scans, unseen, seed, device):
        say(f"\n$ autospine {shlex.join(tokens)}")
        code = run(tokens)
        if code != 0:
            return code
    pictures = draw_overlays(output)
    minutes = (time.monotonic() - started) / 60
    say(f"\nFinished in {minutes:.1f} min. Look at the predictions beside the truth:")
    for picture in pictures:
        say(f"  {picture}")
    return 0


def demo_commands(output: Path, scans: int, unseen: int, seed: int, device: str) -> list[list[str]]:
    """The commands of the demo, one list of tokens each."""
    folders = ("phantoms", "dataset", "run", "predictions")
    phantoms, dataset, run, predictions = (str(output / name) for name in folders)
    return [
        ["phantom", "-o", phantoms, "-n", str(scans), "--test", str(unseen), "--seed", str(seed)],
        ["convert-verse", phantoms, "-o", dataset],
        ["plan-and-train", dataset, "-o", run, "--device", device, *_QUICK_SCHEDULE],
        ["predict", "-m", run, "-i", f"{dataset}/imagesTs", "-o", predictions, "--device", device],
        ["evaluate", "-p", predictions, "-r", f"{dataset}/labelsTs", "-o", f"{output}/scores.json"],
    ]


# Long enough for a phantom, far too short for a real data set.
_QUICK_SCHEDULE: Sequence[str] = (
    *("--schedule.epochs", "12"),
    *("--schedule.steps", "30"),
    *("--schedule.validation-steps", "2"),
)


def draw_overlays(output: Path) -> list[Path]:
    """Draw every prediction beside its reference; returns the pictures."""
    from autospine.io.images import image_stem, read_image, read_labels
    from autospine.rendering import overlay_png

    pictures = []
    for mask in sorted((output / "predictions").glob("*.nii.gz")):
        name = image_stem(mask)
        scan = read_image(output / "dataset" / "imagesTs" / f"{name}_0000.nii.gz")
        reference = read_labels(output / "dataset" / "labelsTs" / f"{name}.nii.gz")
        picture = output / "overlays" / f"{name}.png"
        overlay_png(picture, scan, read_labels(mask).array[0], title=name, reference=reference.array[0])
        pictures.append(picture)
    return pictures
