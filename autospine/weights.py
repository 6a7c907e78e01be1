"""Weights and other tensors on disk: safetensors, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autospine.core.errors import DocumentError
from autospine.io.files import atomic_path, write_failure


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write named tensors and a text header into one file, atomically.

    Raises:
        StorageError: The disk refuses.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, str(temporary), metadata=dict(header or {}))
        except SafetensorError as error:
            raise write_failure(path, str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read named tensors, on the CPU, and the text header.

    Raises:
        DocumentError: The file is absent or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DocumentError(
            f"These weights cannot be read ({error}).",
            where=path,
            remedy="Copy them again, or delete the file and run the training again.",
        ) from error


def set_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Set all weights of a network.

    Raises:
        DocumentError: They belong to another network.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise DocumentError(
            "These weights do not fit the network of the plan.",
            where=path,
            remedy="Use the plan.json that was written with them.",
        ) from error
