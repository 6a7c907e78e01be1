"""A step that both sides are measured at, and all steps by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Literal

Peer = Literal["nnunet", "surface-distance"]

_HERE: Final = Path(__file__).parent

#: In the order in which data go through them.
NAMES: Final = (
    "preprocessing",
    "loading",
    "training_step",
    "sliding_window",
    "export",
    "prediction",
    "evaluation",
)


@dataclass(frozen=True)
class Step:
    """What both sides are to do with the same inputs.

    A side is the script ``ours/NAME.py`` or ``theirs/NAME.py``, started as ``python FILE INPUTS OUTPUT
    THREADS``. It writes whatever ``compare`` needs, and ``OUTPUT/result.json``: ``seconds`` of the work
    alone, and if it likes ``baseline_bytes``, what it held in memory before the work, and a ``note``.

    Args:
        name: Of the step and of its three files.
        work: What is done, in one line.
        target: How many times as long the peer should take.
        prepare: Makes the inputs below the work folder and returns their folder; quick once they are there.
        compare: Gets the inputs and the output folders of ours and theirs, and tells how far they agree.
        threads: Of either side.
        memory_target: What is wanted of the memory, in words.
        peer: Whose work theirs is; what is no part of nnU-Net runs in autospine's own environment.
    """

    name: str
    work: str
    target: float
    prepare: Callable[[Path], Path]
    compare: Callable[[Path, Path, Path], Mapping[str, float | str]]
    threads: int = 2
    memory_target: str = ""
    peer: Peer = "nnunet"


def find(name: str) -> Step:
    """The step of that name.

    Raises:
        KeyError: There is none.
    """
    if name not in NAMES:
        raise KeyError(name)
    step: Step = import_module(f"benchmarks.steps.{name}").STEP
    return step


def script(side: str, name: str) -> Path:
    """The script of one side, ``"ours"`` or ``"theirs"``."""
    return _HERE / side / f"{name}.py"
