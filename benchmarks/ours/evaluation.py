"""What ``autospine evaluate`` does. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from autospine.evaluation.report import evaluate
from autospine.evaluation.scores import Coding
from autospine.io import documents
from autospine.io.dataset_document import read_document


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    labels = read_document(inputs / "dataset.json").labels
    baseline = _resident_bytes()
    started = time.perf_counter()
    report = evaluate(
        inputs / "prediction", inputs / "reference", Coding.of_schema(labels), tolerance=1.0, workers=threads
    )
    result = {
        "seconds": time.perf_counter() - started,
        "baseline_bytes": baseline,
        "note": "with bootstrap intervals of the means",
    }
    documents.save(output / "report.json", report)
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
