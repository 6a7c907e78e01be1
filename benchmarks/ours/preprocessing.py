"""One case as autospine preprocesses it before a training. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from autospine.core.plan import Plan
from autospine.host_memory import resident_memory
from autospine.io import documents
from autospine.io.raw_dataset import load_dataset
from autospine.preprocessing import preprocess_dataset


def main(inputs: Path, output: Path) -> None:
    """Time the work and write what comes out; the threads of its libraries are set from outside."""
    plan = documents.load(inputs / "plan.json", Plan)
    image = Path(json.loads((inputs / "case.json").read_text(encoding="utf-8"))["image"])
    dataset = load_dataset(image.parents[1])
    one = replace(dataset, training=tuple(case for case in dataset.training if case.image == image))
    baseline = resident_memory()
    started = time.perf_counter()
    preprocess_dataset(one, plan, plan.configurations[0], output, workers=1)
    result = {
        "seconds": time.perf_counter() - started,
        "baseline_bytes": baseline,
        "note": "also marks what may be unlabelled vertebrae at the border; stores half precision",
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
