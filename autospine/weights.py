"""Weights and other tensors on disk: safetensors, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autospine.core.errors import DocumentError
from autospine.io.files import atomic_path, write_failure

#: Under which key of the header the checksum stands.
_CHECKSUM: Final = "sha256"
_HEADER: Final = "autospine"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write named tensors, a text header and the checksum of both into one file, atomically.

    Raises:
        StorageError: The disk refuses.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    texts = dict(header or {})
    # One entry only: safetensors writes several in any order, and equal files are to be equal bit for bit.
    metadata = {_HEADER: json.dumps({**texts, _CHECKSUM: _checksum(contiguous, texts)}, sort_keys=True)}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, str(temporary), metadata=metadata)
        except SafetensorError as error:
            raise write_failure(path, str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read named tensors, on the CPU, and the text header.

    Raises:
        DocumentError: The file is absent or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = _header(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error
    checksum = header.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _checksum(tensors, header):
        raise _damaged(path, "they are not what was written")
    return tensors, header


def _header(metadata: dict[str, str]) -> dict[str, str]:
    """The texts in a file's metadata; older files have one entry for each."""
    if _HEADER not in metadata:
        return metadata
    try:
        return {str(key): str(value) for key, value in json.loads(metadata[_HEADER]).items()}
    except (ValueError, AttributeError) as error:
        raise SafetensorError(f"damaged header: {error}") from error


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """Of names, types, shapes and values, and of the header."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path, reason: str) -> DocumentError:
    return DocumentError(
        f"These weights cannot be read ({reason}).",
        where=path,
        remedy="Copy them again, or delete the file and run the training again.",
    )


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
