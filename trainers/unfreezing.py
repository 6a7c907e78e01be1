"""Layer-wise fine-tuning: the head first, and then one layer more at a time, from the last to the first."""

from __future__ import annotations

from torch import nn

from autospine.core.errors import UsageError


def thaw(network: nn.Module, progress: float, share: float) -> None:
    """Let those layers learn whose turn has come.

    Args:
        network: With ``layers`` from input to output and a ``head``, unless ``share`` is 0.
        progress: Part of the training that is done.
        share: Part of the training after which all layers learn; 0 leaves everything as it is.

    Raises:
        UsageError: The network does not consist of layers one behind the other.
    """
    if share == 0:
        return
    layers, head = getattr(network, "layers", None), getattr(network, "head", None)
    if layers is None or head is None:
        raise UsageError(
            f"A {type(network).__name__} cannot be fine-tuned layer by layer.",
            remedy="Set the schedule's unfreezing to 0.",
        )
    order = [*layers, head]
    learning = 1 + int(progress / share * (len(order) - 1) + 1e-9)
    for number, layer in enumerate(order):
        layer.requires_grad_(number >= len(order) - learning)
