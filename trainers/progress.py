"""What a training tells: a line an epoch, ``log.jsonl`` and ``progress.png``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from autospine.core.table import duration, number
from autospine.io.files import atomic_path, write_text

from .checkpoint import EpochRecord

#: Waiting for a smaller share of an epoch than this is not worth a word.
_MUCH_WAITING: Final = 0.1


def epoch_line(name: str, record: EpochRecord, counted: str, seconds_left: float) -> str:
    """One dense line about a finished epoch.

    Args:
        name: Of the training.
        record: Of the epoch.
        counted: Which one it was, in words.
        seconds_left: To the end of the training.
    """
    skipped = f" skipped {record.skipped_steps}" if record.skipped_steps else ""
    took = f"{record.seconds:.1f} s{_waiting(record)}"
    return (
        f"{name} epoch {counted} loss {record.training_loss:.4f} "
        f"val {number(record.validation_loss, 4)} dice {record.dice:.3f} (avg {record.smoothed_dice:.3f}) "
        f"lr {record.learning_rate:.2e}{skipped} {took}, {duration(seconds_left)} left"
    )


def _waiting(record: EpochRecord) -> str:
    """The share of an epoch that went by waiting for batches, if it is large, and what helps."""
    if record.waiting <= _MUCH_WAITING * record.seconds:
        return ""
    return f" ({record.waiting / record.seconds:.0%} waiting for batches: more --schedule.workers help)"


def write_log(path: Path, history: Sequence[EpochRecord]) -> None:
    """Write one JSON object a line and epoch, atomically.

    Raises:
        StorageError: The disk refuses.
    """
    write_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in history))


def write_plot(path: Path, title: str, history: Sequence[EpochRecord]) -> None:
    """Plot losses, Dice and learning rate over the epochs.

    Raises:
        StorageError: The disk refuses.
    """
    from matplotlib.figure import Figure

    epochs = [record.epoch + 1 for record in history]
    validation = [math.nan if r.validation_loss is None else r.validation_loss for r in history]
    figure = Figure(figsize=(8, 7), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    losses.plot(epochs, [r.training_loss for r in history], label="training loss", color="tab:blue")
    losses.plot(epochs, validation, label="validation loss", color="tab:red")
    losses.set_ylabel("loss")
    dice = losses.twinx()
    dice.plot(epochs, [r.dice for r in history], ":", label="patch Dice", color="tab:green")
    dice.plot(epochs, [r.smoothed_dice for r in history], label="patch Dice, averaged", color="tab:green")
    dice.set_ylabel("Dice")
    dice.set_ylim(0, 1)
    handles = [*losses.get_legend_handles_labels()[0], *dice.get_legend_handles_labels()[0]]
    losses.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=4, frameon=False)
    losses.set_title(title, pad=28)
    rates.plot(epochs, [r.learning_rate for r in history], color="tab:gray")
    rates.set_ylabel("learning rate")
    rates.set_xlabel("epoch")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
