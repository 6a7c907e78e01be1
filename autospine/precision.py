"""Which arithmetic a device does the forward pass in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from autospine.core.plan import Precision


def choose_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """The type of the forward pass.

    ``auto`` takes float16 on a GPU (with loss scaling; nnU-Net's choice, every CUDA card is fast at
    it), bfloat16 on a CPU with native bfloat16 instructions, and float32 otherwise.
    """
    fixed = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if wanted != "auto":
        return fixed[wanted]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast to ``dtype`` on ``device``; without effect for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


@contextmanager
def tensor_cores(device: torch.device) -> Iterator[None]:
    """Inside, a GPU may round the factors of single-precision products to TF32, as half precision does.

    A CPU is left as it is.
    """
    if device.type != "cuda":
        yield
        return
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = True
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def _cpu_has_bfloat16() -> bool:
    # Without these instructions oneDNN emulates bfloat16 and is slower than in float32.
    capability = torch.backends.cpu.get_cpu_capability()
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return capability == "AVX512" and bool(probe()) if probe is not None else False
