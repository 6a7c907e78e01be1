"""Networks, built from the specification in a plan.

A network is a module whose ``forward`` maps images (b, channels, *patch) to outputs (b, outputs, *patch),
and whose ``forward_stages`` returns those of all decoder stages, finest first. The outputs are the logits of
the classes and, where a configuration learns where vertebrae are, four centre channels behind them.
"""

from __future__ import annotations

from typing import cast

from torch import nn

from autospine.core.plan import NetworkSpec
from autospine.registry import find

__all__ = ["build"]


def build(spec: NetworkSpec, in_channels: int, outputs: int) -> nn.Module:
    """Build the network that ``spec.name`` names in the registry.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out, ``Plan.output_channels``.

    Raises:
        UnknownPluginError: No network of that name is installed.
        UsageError: The specification contradicts itself.
    """
    return cast(nn.Module, find("networks", spec.name)(spec, in_channels, outputs))
