"""Layer-wise fine-tuning: the head first, and then one layer more at a time, from the last to the first."""

from __future__ import annotations

from torch import nn

from autospine.core.errors import UsageError


def thaw(network: nn.Module, epoch: int, every: int) -> None:
    """Let those layers learn whose turn has come.

    Args:
        network: With ``layers`` from input to output and a ``head``, unless ``every`` is 0.
        epoch: Counted from 0.
        every: Epochs after which one more layer learns; 0 leaves everything as it is.

    Raises:
        UsageError: The network does not consist of layers one behind the other.
    """
    if every == 0:
        return
    layers, head = getattr(network, "layers", None), getattr(network, "head", None)
    if layers is None or head is None:
        raise UsageError(
            f"A {type(network).__name__} cannot be fine-tuned layer by layer.",
            remedy="Set the schedule's unfreeze_every to 0.",
        )
    order = [*layers, head]
    first = max(0, len(order) - 1 - epoch // every)
    for number, layer in enumerate(order):
        layer.requires_grad_(number >= first)
