"""Runs a step on both sides in turn and makes its row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from benchmarks.machine import processor, usable_cores, versions_of
from benchmarks.measuring import Measurement, Side, python
from benchmarks.peer import peer_python
from benchmarks.step import Peer, Step, script
from benchmarks.table import Row

_LIBRARIES: Final = ("torch", "numpy")
_PACKAGES: Final[Mapping[Peer, str]] = {"nnunet": "nnunetv2", "surface-distance": "surface-distance"}


@dataclass(frozen=True)
class Bench:
    """Where and how often steps are measured.

    Args:
        work: Folder of inputs, outputs and the peer's environment.
        repeats: Runs of each side.
        peer_python: A Python that has nnU-Net already; by default one is set up in ``work``.
    """

    work: Path
    repeats: int = 3
    peer_python: Path | None = None

    def measure(self, step: Step) -> Row:
        """Prepare a step, run both sides in turn, and compare what they have made.

        Raises:
            SideFailedError: A side ended in an error.
            SetUpError: nnU-Net's environment cannot be made.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        pythons = {"ours": python(), "theirs": self._theirs(step)}
        print(f"{step.name}: preparing", flush=True)
        inputs = step.prepare(self.work)
        sides = {name: self._side(name, step, pythons[name], inputs) for name in ("ours", "theirs")}
        runs: dict[str, list[Measurement]] = {name: [] for name in sides}
        for repeat in range(self.repeats):
            for name, side in sides.items():
                done = side.measure()
                runs[name].append(done)
                what = f"{done.seconds:.3f} s, {done.peak_bytes / 1e9:.2f} GB"
                print(f"{step.name}: {name}, {repeat + 1} of {self.repeats}: {what}", flush=True)
        compared = step.compare(inputs, sides["ours"].output, sides["theirs"].output)
        return Row(
            step=step.name,
            work=step.work,
            peer=step.peer,
            date=date.today().isoformat(),
            device="CPU",
            processor=processor(),
            cores=usable_cores(),
            threads=step.threads,
            target=step.target,
            memory_target=step.memory_target,
            ours=tuple(runs["ours"]),
            theirs=tuple(runs["theirs"]),
            versions={
                "ours": versions_of(pythons["ours"], "autospine", *_LIBRARIES),
                "theirs": versions_of(pythons["theirs"], _PACKAGES[step.peer], *_LIBRARIES),
            },
            comparison={key: v if isinstance(v, str) else float(v) for key, v in compared.items()},
        )

    def _theirs(self, step: Step) -> Path:
        if step.peer != "nnunet":
            return python()
        return self.peer_python or peer_python(self.work)

    def _side(self, name: str, step: Step, interpreter: Path, inputs: Path) -> Side:
        output = self.work / "outputs" / step.name / name
        file = script(name, step.name)
        return Side(f"{name} of the step {step.name}", interpreter, file, inputs, output, step.threads)
