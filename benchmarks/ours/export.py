"""autospine's export of logits. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from autospine.core.plan import Plan
from autospine.core.trace import Trace
from autospine.host_memory import resident_memory
from autospine.inference.export import export_labels
from autospine.inference.prediction import Prediction
from autospine.io import documents


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    plan = documents.load(inputs / "plan.json", Plan)
    trace = documents.load(inputs / "trace.json", Trace)
    logits = np.load(inputs / "logits.npy")
    baseline = resident_memory()
    started = time.perf_counter()
    mask = export_labels([Prediction(logits, trace)], plan.classes)
    result = {"seconds": time.perf_counter() - started, "baseline_bytes": baseline}
    np.save(output / "mask.npy", mask)
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
