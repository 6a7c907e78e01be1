"""autospine's sliding window. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autospine.core.plan import Configuration, Plan
from autospine.host_memory import resident_memory
from autospine.inference.sliding_window import predict_outputs, windows
from autospine.io import documents
from autospine.networks import build
from autospine.precision import autocast, choose_precision
from autospine.weights import load_tensors, set_weights

_CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Args:
        network: With its weights, in evaluation mode.
        configuration: The network's.
        image: Shape (1, z, y, x), preprocessed.
        precision: autospine's choice for this processor.
    """

    network: nn.Module
    configuration: Configuration
    image: NDArray[np.float32]
    precision: torch.dtype

    @classmethod
    def load(cls, inputs: Path) -> Work:
        """Read network and image."""
        plan, path = documents.load(inputs / "plan.json", Plan), inputs / "weights.safetensors"
        configuration = plan.configurations[0]
        network = build(configuration.network, 1, plan.output_channels(configuration))
        set_weights(network, load_tensors(path)[0], path)
        image = np.load(inputs / "image.npy")
        return cls(network.eval(), configuration, image, choose_precision("auto", _CPU))

    @torch.inference_mode()
    def predict(self, image: NDArray[Any], precision: torch.dtype) -> NDArray[np.float16]:
        """Outputs (classes, z, y, x)."""
        with autocast(_CPU, precision):
            return predict_outputs([self.network], image, self.configuration, _CPU, mirror=False)

    def seconds(self, image: NDArray[Any], precision: torch.dtype) -> float:
        """How long that takes."""
        started = time.perf_counter()
        self.predict(image, precision)
        return time.perf_counter() - started

    @torch.inference_mode()
    def first_window(self) -> NDArray[np.float32]:
        """Outputs of the first window in single precision."""
        box = tuple(slice(0, n) for n in self.configuration.patch)
        window = torch.from_numpy(np.ascontiguousarray(self.image[(slice(None), *box)]))[None]
        outputs: NDArray[np.float32] = self.network(window)[0].numpy()
        return outputs

    def in_air(self, image: NDArray[np.float32]) -> dict[str, float]:
        """What it saves that windows without contrast are not computed: in air, and in air that is uneven."""
        noise = np.random.default_rng(0).normal(0, 1e-3, image.shape).astype(np.float32)
        boxes = list(windows(image.shape[1:], self.configuration.patch, 0.5))
        plain = [box for box in boxes if float(np.ptp(image[(slice(None), *box)])) == 0]
        return {
            "windows_in_air": float(len(boxes)),
            "windows_in_air_without_contrast": float(len(plain)),
            "seconds_in_air": self.seconds(image, self.precision),
            "seconds_in_air_with_every_window": self.seconds(image + noise, self.precision),
        }


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    work = Work.load(inputs)
    baseline = resident_memory()
    started = time.perf_counter()
    outputs = work.predict(work.image, work.precision)
    result = {
        "seconds": time.perf_counter() - started,
        "baseline_bytes": baseline,
        "note": f"autocast to {str(work.precision).removeprefix('torch.')}",
    }
    np.save(output / "map.npy", outputs.argmax(0).astype(np.int8))
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
