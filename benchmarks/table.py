"""The measured figures of all steps: kept as JSON, shown as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from autospine.io import documents
from autospine.io.files import write_text
from benchmarks.measuring import Measurement
from benchmarks.step import NAMES

_GB: Final = 1e9
_PEERS: Final = {"nnunet": "nnU-Net", "surface-distance": "surface-distance"}

_INTRODUCTION: Final = """\
# autospine beside its peers

The same inputs, synthetic scans, are worked through by autospine and by a peer in turn, each time in a
fresh process. Seconds are those of the work alone, without imports: the median, and the smallest and largest.
Memory is the largest that all processes of a side held at once; behind the slash, without what the side held
before the work: its imports, and arrays that it was given. A ratio is the peer's figure over autospine's.
`python -m benchmarks NAME` measures a step again; `speed.json` holds every single run.
"""


@dataclass(frozen=True)
class Row:
    """One step, measured on one machine on one day.

    Args:
        step: Its name.
        work: What was done.
        peer: Whose work theirs is.
        date: As in 2026-01-31.
        device: ``"CPU"`` or ``"GPU"``: what computed.
        processor: Its name.
        cores: How many there are.
        threads: How many either side could use.
        target: Wanted ratio of the seconds.
        memory_target: What is wanted of the memory.
        ours: autospine's runs.
        theirs: The peer's runs.
        versions: Of the libraries, by side.
        comparison: How far the outputs agree.
    """

    step: str
    work: str
    peer: str
    date: str
    device: str
    processor: str
    cores: int
    threads: int
    target: float
    memory_target: str
    ours: tuple[Measurement, ...]
    theirs: tuple[Measurement, ...]
    versions: Mapping[str, Mapping[str, str]]
    comparison: Mapping[str, float | str]

    @property
    def ratio(self) -> float:
        """How many times as long the peer takes."""
        return seconds(self.theirs) / seconds(self.ours)

    @property
    def memory_ratio(self) -> float:
        """How many times as much memory the peer takes."""
        return peak(self.theirs) / peak(self.ours)


@dataclass(frozen=True)
class Table:
    """All steps that have been measured, each the last time.

    Args:
        rows: One a step.
    """

    rows: tuple[Row, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Table:
        """What stands in a file; nothing if there is none."""
        return documents.load(path, Table) if path.is_file() else cls()

    def with_row(self, row: Row) -> Table:
        """The table with a step measured anew, in the order of the steps."""
        rows = {old.step: old for old in self.rows} | {row.step: row}
        names = [*(name for name in NAMES if name in rows), *(name for name in rows if name not in NAMES)]
        return Table(tuple(rows[name] for name in names))

    def save(self, folder: Path) -> None:
        """Write ``speed.json`` and ``speed.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        documents.save(folder / "speed.json", self)
        write_text(folder / "speed.md", self.markdown())

    def markdown(self) -> str:
        """The table with its details below."""
        return "\n".join([_INTRODUCTION, *_overview(self.rows), "", *map(_details, self.rows)])


def seconds(runs: Sequence[Measurement]) -> float:
    """Median of several runs."""
    return median(run.seconds for run in runs)


def peak(runs: Sequence[Measurement]) -> float:
    """Median peak memory of several runs, in bytes."""
    return median(run.peak_bytes for run in runs)


def beyond_baseline(runs: Sequence[Measurement]) -> float | None:
    """Median peak memory without what was held before the work; None if that is not known."""
    beyond = [run.peak_bytes - run.baseline_bytes for run in runs if run.baseline_bytes is not None]
    return median(beyond) if len(beyond) == len(runs) else None


def _overview(rows: Sequence[Row]) -> list[str]:
    heads = (
        "step",
        "autospine, s",
        "peer, s",
        "ratio",
        "wanted",
        "autospine, GB",
        "peer, GB",
        "ratio",
        "on",
        "threads",
        "date",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * 7 + "|---|---:|---|"]
    for row in rows:
        cells = (
            row.step,
            _spread(row.ours),
            _spread(row.theirs),
            f"**{row.ratio:.1f}**",
            f"{row.target:g}",
            _memory(row.ours),
            _memory(row.theirs),
            f"{row.memory_ratio:.1f}",
            row.device,
            str(row.threads),
            row.date,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _spread(runs: Sequence[Measurement]) -> str:
    each = [run.seconds for run in runs]
    middle, low, high = (_figure(s) for s in (median(each), min(each), max(each)))
    return f"{middle} ({low} to {high})"


def _memory(runs: Sequence[Measurement]) -> str:
    beyond = beyond_baseline(runs)
    return f"{peak(runs) / _GB:.2f}" + ("" if beyond is None else f" / {beyond / _GB:.2f}")


def _details(row: Row) -> str:
    peer = _PEERS.get(row.peer, row.peer)
    sides = (("autospine", row.ours, "ours"), (peer, row.theirs, "theirs"))
    lines = [f"## {row.step}", "", f"{row.work[:1].upper()}{row.work[1:]}. The peer is {peer}.", ""]
    if row.memory_target:
        lines.append(f"- wanted of the memory: {row.memory_target}")
    for name, runs, side in sides:
        versions = ", ".join(f"{library} {version}" for library, version in row.versions[side].items())
        note = f"; {runs[-1].note}" if runs[-1].note else ""
        alone = median(run.process_bytes for run in runs) / _GB
        lines.append(f"- {name}: {versions}; largest process {alone:.2f} GB{note}")
    lines += [f"- {_words(key)}: {_value(value)}" for key, value in row.comparison.items()]
    lines.append(
        f"- {_counted(len(row.ours), 'run')} a side, {_counted(row.threads, 'thread')}, "
        f"{row.device}, {row.processor}, {_counted(row.cores, 'core')}, {row.date}"
    )
    return "\n".join([*lines, ""])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _words(key: str) -> str:
    return key.replace("_", " ")


def _value(value: float | str) -> str:
    return value if isinstance(value, str) else _figure(value)


def _figure(value: float) -> str:
    """A number with the digits that say something; shares close to 1 keep theirs."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) < 1:
        return f"{value:.5f}".rstrip("0").rstrip(".")
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
