"""One side in a fresh process: its seconds, and the peak memory of all that it starts. Linux only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

_WATCHING: Final = Path(__file__).with_name("watching.py")
_LINES: Final = 30
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLOSC_NTHREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "nnUNet_def_n_proc",  # also the threads that nnU-Net exports with
)


class SideFailedError(Exception):
    """A side ended in an error or without a result."""


@dataclass(frozen=True)
class Measurement:
    """One run of one side.

    Args:
        seconds: Of the work alone, as the side timed it.
        peak_bytes: Largest sum of the resident memory of all its processes; pages that several of them
            share count several times.
        process_bytes: Largest resident memory of one of its processes.
        baseline_bytes: What it held before the work, if it says so.
        note: What it says about how the work was done.
    """

    seconds: float
    peak_bytes: int
    process_bytes: int
    baseline_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Peak:
    """The most memory that a command held, in bytes.

    Args:
        tree: Of all its processes together.
        process: Of any one.
    """

    tree: int
    process: int


@dataclass(frozen=True)
class Side:
    """One side of a step, ready to run.

    Args:
        name: What it is called in messages.
        python: The Python it runs with.
        script: Its script.
        inputs: Folder of the inputs.
        output: Folder of the results; emptied before each run.
        threads: How many it may use.
    """

    name: str
    python: Path
    script: Path
    inputs: Path
    output: Path
    threads: int

    def measure(self) -> Measurement:
        """Run it once.

        Raises:
            SideFailedError: It ended in an error or without a result.
        """
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir(parents=True)
        log = self.output.with_name(f"{self.output.name}.log")
        command = [self.python, self.script, self.inputs, self.output, self.threads]
        with log.open("w", encoding="utf-8") as stream:
            code, peak = watched(list(map(str, command)), stream, self._environment())
        return self._read(code, peak, log.read_text(encoding="utf-8", errors="replace"))

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        threads = dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        # Without its folder on the path, a script called export hides no module of that name. The scripts
        # compute on the CPU; a GPU that is there must not change what the libraries prepare.
        fixed = {"PYTHONSAFEPATH": "1", "CUDA_VISIBLE_DEVICES": ""}
        return inherited | threads | fixed

    def _read(self, code: int, peak: Peak, log: str) -> Measurement:
        path = self.output / "result.json"
        if code or not path.is_file():
            last = "\n".join(log.splitlines()[-_LINES:])
            what = f"ended with the code {code}" if code else "left no result.json"
            raise SideFailedError(f"{self.name} {what} ({self.script}):\n{last}")
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        baseline = result.get("baseline_bytes")
        return Measurement(
            seconds=float(result["seconds"]),
            peak_bytes=peak.tree,
            process_bytes=peak.process,
            baseline_bytes=None if baseline is None else int(baseline),
            note=str(result.get("note", "")),
        )


def watched(command: list[str], log: Any, environment: Mapping[str, str] | None = None) -> tuple[int, Peak]:
    """Run a command to its end and watch its memory.

    Args:
        command: What to run, with the full path of the program.
        log: Open text file for all that it prints.
        environment: Its variables; this process's own by default.

    Returns:
        Its exit code and its memory.
    """
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        watching = [sys.executable, "-I", "-S", str(_WATCHING), str(report), *command]
        process = subprocess.Popen(
            watching, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            process.wait()
        finally:
            with suppress(ProcessLookupError):  # nothing that it started may outlive it and disturb the next
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not report.is_file():
            return process.returncode or 1, Peak(0, 0)
        found = json.loads(report.read_text(encoding="ascii"))
    return found["code"], Peak(found["tree"], found["process"])


def python() -> Path:
    """The Python that runs this: autospine's own."""
    return Path(sys.executable)
