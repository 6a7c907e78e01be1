"""How one stage's prediction becomes the next stage's input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def with_previous(image: NDArray[np.float32], class_map: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Append a previous stage's class map to an image as one-hot channels, background left out.

    Args:
        image: Shape (c, z, y, x).
        class_map: Channel indices of shape (z, y, x).
        classes: Number of classes with background.

    Returns:
        Shape (c + classes - 1, z, y, x).
    """
    channels = class_map[None] == np.arange(1, classes).reshape(-1, 1, 1, 1)
    return np.concatenate([image, channels.astype(np.float32)])
