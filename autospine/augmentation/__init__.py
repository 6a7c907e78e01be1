"""Random changes of training patches, batched on the training device.

What is random is drawn first (`draw_parameters`), on the CPU and from one generator; what was drawn is
then applied (`apply`). Transforms, their order and their default ranges are nnU-Net v2's; every number
comes from `plan.Augmentation`. Each transform touches only those samples it was drawn for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autospine.augmentation import cascade, intensity, spatial
from autospine.augmentation.cascade import one_hot
from autospine.augmentation.parameters import Parameters, draw_margins, draw_parameters
from autospine.augmentation.spatial import move_points

__all__ = ["Parameters", "apply", "draw_margins", "draw_parameters", "move_points", "one_hot"]


@torch.no_grad()
def apply(
    parameters: Parameters,
    image: Sequence[Tensor],
    labels: Sequence[Tensor],
    previous: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Augment a batch; the arguments stay as they are.

    The patches that come in may each have any size from the final patch up; what is wanted lies in their
    middle. `draw_margins` says how much more than the final patch each needs.

    Args:
        parameters: What was drawn for this batch.
        image: Normalised intensities, b samples (c, *size) of any floating type.
        labels: Class indices, b samples (*size), int8; -1 is ignored by the loss.
        previous: Classes a previous stage predicted, b samples (*size), int8.

    Returns:
        The image (b, c, *patch) in float32, the labels (b, *patch) and the previous stage's classes
        one-hot without background (b, classes - 1, *patch) in float32.

    Raises:
        ValueError: A batch of another size than drawn for, a patch too small, or ``previous`` given
            but not drawn for, or the other way round.
    """
    if (previous is None) != (parameters.cascade is None) or len(image) != len(parameters.moved):
        raise ValueError("The batch is not the one that the parameters were drawn for.")
    # Autocast would round sampling positions to bfloat16.
    with torch.autocast(image[0].device.type, enabled=False):
        maps = [labels] if previous is None else [labels, previous]
        moved, moved_maps = spatial.transform(parameters, image, maps)
        intensity.transform(parameters, moved)
        if parameters.cascade is None:
            return moved, moved_maps[0], None
        return moved, moved_maps[0], cascade.transform(parameters.cascade, moved_maps[1])
