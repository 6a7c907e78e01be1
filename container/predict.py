#!/usr/bin/env python3
"""What the container does: predict the scans in /data and lay the results beside them, as VerSe wants it.

VerSe'19 puts scans straight into /data and reads /data/results; VerSe'20 gives each scan a folder of its own
below /data and reads /data/results_TEAM. Which of the two it is shows by where the scans stand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

#: Exit code of ``autospine predict`` when some scans were no usable images; the others are predicted.
_SOME_REJECTED = 3

Run = Callable[[Sequence[str]], int]


def autospine(arguments: Sequence[str]) -> int:
    """Run an autospine command; returns its exit code."""
    # Isolated from the current folder: it holds somebody else's files.
    return subprocess.run([sys.executable, "-P", "-m", "autospine", *arguments], check=False).returncode


def challenge_of(data: Path) -> str:
    """Which challenge's layout a folder has."""
    flat = any(path.is_file() and path.name.endswith((".nii.gz", ".nii")) for path in data.iterdir())
    return "verse19" if flat else "verse20"


def main(arguments: Sequence[str], run: Run = autospine) -> int:
    """Predict and submit.

    Args:
        arguments: Of the command line.
        run: What runs an autospine command.

    Returns:
        0; 3 when there are results, but not of all scans; or the exit code of the step that failed.
    """
    options = _parser().parse_args(arguments)
    challenge = challenge_of(options.data) if options.challenge == "auto" else options.challenge
    data = str(options.data)
    with tempfile.TemporaryDirectory() as masks:
        where = ["--input", data, "--output", masks]
        predicted = run(["predict", "--model", str(options.model), "--device", options.device, *where])
        if predicted not in (0, _SOME_REJECTED):
            return predicted
        where = ["--predictions", masks, "--scans", data, "--output", data]
        submitted = run(["submit", challenge, "--team", options.team, *where, "--allow-missing", "--force"])
    return submitted or predicted


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Predict the scans of a VerSe challenge.")
    parser.add_argument("--data", type=Path, default=Path("/data"), help="scans, and where the results go")
    parser.add_argument("--model", type=Path, default=Path("/opt/model"), help="run folder of the training")
    parser.add_argument("--team", default="autospine", help="part of the name of VerSe'20's folder")
    parser.add_argument("--challenge", default="auto", choices=("auto", "verse19", "verse20"))
    parser.add_argument("--device", default="auto", help="auto takes a GPU if there is one")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
