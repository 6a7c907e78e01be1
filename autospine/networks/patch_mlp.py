"""A multi-layer perceptron that classifies the middle of every patch of an image, as convolutions.

Sliding a perceptron over overlapping patches is a convolution with the patch as its kernel, followed by
convolutions of kernel one: the same numbers without cutting out a single patch. It is the network of the
patch classifiers by stacked sparse autoencoders (Qadri et al., Mathematics 10:796, 2022) and deep belief
networks (Qadri et al., Applied Sciences 9:69, 2019), which differ in how its layers are pre-trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autospine.core.errors import UsageError
from autospine.core.network_options import PatchMlpOptions, options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.fitting import cropped


class PatchLayer(nn.Module):
    """A dense layer on every patch of an image, as a convolution on blocks of pixels.

    A convolution with kernel p and stride s equals one with kernel p / s and stride one on an image whose
    blocks of s pixels have become channels. That is twice as fast in bfloat16 on a CPU, which has no good
    way to multiply single channels.

    Args:
        inputs: Channels that come in.
        outputs: Units, each connected to all pixels of a patch.
        patch: Edge of the patch in pixels.
        stride: Distance in pixels between patches, even or odd as the patch is.
        dimensions: 2 or 3.
    """

    def __init__(self, inputs: int, outputs: int, patch: int, stride: int, dimensions: int) -> None:
        super().__init__()
        self.patch = patch
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *(patch,) * dimensions))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, *size) to (b, outputs, *ceil(size / stride)).

        The patch of output i has its middle at pixel ``stride * i + (stride - 1) / 2``. Where patches reach
        beyond the image its border is repeated, which is right in any unit of intensity.
        """
        # Weights of zero fill patches up to whole blocks.
        spare = -self.patch % self.stride
        before = (self.patch - self.stride) // 2
        pads = [(before, before + spare + -n % self.stride) for n in reversed(x.shape[2:])]
        blocks = _blocks(F.pad(x, [n for pad in pads for n in pad], mode="replicate"), self.stride)
        weight = _blocks(F.pad(self.weight, (0, spare) * len(pads)), self.stride)
        convolve = F.conv3d if len(pads) == 3 else F.conv2d
        return convolve(blocks, weight, self.bias)


class PatchMlp(nn.Module):
    """Layers of sigmoid units over the patches of an image, and a linear head.

    Args:
        first: The hidden layer that sees patches.
        others: The hidden layers after it.
        head: What turns the last layer's units into outputs.
    """

    def __init__(self, first: PatchLayer, others: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.patch = first.patch
        self.stride = first.stride
        self.layers = nn.ModuleList([first, *others])
        self.head = head
        for layer in (*self.layers, head):
            # After Glorot and Bengio (2010); four times larger where a sigmoid, no steeper than 1/4, follows.
            gain = 1.0 if layer is head else 4.0
            nn.init.xavier_uniform_(cast(Tensor, layer.weight).flatten(1), gain)
            nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, outputs, *size) of images (b, channels, *size), interpolated between the patches."""
        outputs = self._by_patch(x)
        size = [n * self.stride for n in outputs.shape[2:]]
        mode = "trilinear" if len(size) == 3 else "bilinear"
        return cropped(F.interpolate(outputs, size, mode=mode, align_corners=False), x.shape[2:])

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Outputs of the patches themselves, one stage (b, outputs, *ceil(size / stride))."""
        return [self._by_patch(x)]

    def _by_patch(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).sigmoid_()
        outputs: Tensor = self.head(x)
        return outputs


def patch_mlp(spec: NetworkSpec, in_channels: int, outputs: int) -> PatchMlp:
    """A perceptron over patches whose hidden layers have the specification's features.

    Each layer has a kernel and a stride. The strides' product is the distance between patches along every
    axis, as in ``((4, 4), (1, 1))``. The first kernel is the patch or, like all others, ones. Numbers of
    blocks mean nothing here.

    Args:
        spec: The network's shape; its options are ``PatchMlpOptions``.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself.
    """
    options = options_of(spec, PatchMlpOptions)
    _check(spec, options)
    kind: Callable[..., nn.Module] = nn.Conv3d if spec.dimensions == 3 else nn.Conv2d
    first = PatchLayer(in_channels, spec.features[0], options.patch, options.stride, spec.dimensions)
    pairs = zip(spec.features[:-1], spec.features[1:], strict=True)
    others = [kind(before, after, 1) for before, after in pairs]
    return PatchMlp(first, others, kind(spec.features[-1], outputs, 1))


def hidden_layers(network: nn.Module) -> list[nn.Module]:
    """The layers of a network that can be pre-trained one after the other, from the input on.

    Raises:
        UsageError: The network is none of dense layers.
    """
    if not isinstance(network, PatchMlp):
        raise UsageError(
            f"A {type(network).__name__} has no layers to pre-train one by one.",
            remedy="Set the schedule's pretraining.method to none, or plan the network patch_mlp.",
        )
    return list(network.layers)


def activations(layers: Sequence[nn.Module], patches: Tensor) -> Tensor:
    """What the units of the last of some hidden layers make of patches.

    Args:
        layers: The first of ``hidden_layers``, none to all of them.
        patches: Shape (b, channels, p, …, p), as large as the network's patches.

    Returns:
        Values between 0 and 1 of shape (b, units); the flattened patches where there are no layers.
    """
    x = patches.flatten(1)
    for layer in layers:
        x = F.linear(x, cast(Tensor, layer.weight).flatten(1), cast(Tensor, layer.bias)).sigmoid()
    return x


def _blocks(x: Tensor, edge: int) -> Tensor:
    """Blocks of pixels as channels: (b, c, *size) becomes (b, c * edge^d, *size / edge)."""
    axes = range(x.ndim - 2)
    counts = [n // edge for n in x.shape[2:]]
    split = x.reshape(*x.shape[:2], *[n for count in counts for n in (count, edge)])
    inside, among = [3 + 2 * axis for axis in axes], [2 + 2 * axis for axis in axes]
    return split.permute(0, 1, *inside, *among).flatten(1, 1 + len(axes))


def _check(spec: NetworkSpec, options: PatchMlpOptions) -> None:
    """Refuse a specification that a plan edited by hand may hold."""
    layers, patch, stride = len(spec.features), options.patch, options.stride
    axes = {len(sizes) for sizes in (*spec.kernels, *spec.strides)}
    if layers == 0:
        problem = "A perceptron over patches needs at least one hidden layer."
    elif {len(spec.kernels), len(spec.strides)} != {layers}:
        problem = f"{layers} layers need as many kernels and strides."
    elif axes not in ({2}, {3}):
        problem = "Kernels and strides must all have two, or all have three axes."
    elif not 0 < stride <= patch:
        problem = f"The stride, {stride}, must lie between 1 and the patch, {patch}."
    elif (patch - stride) % 2:
        # Else no patch could have its middle in the middle of the pixels that it stands for.
        problem = f"Patch {patch} and stride {stride} must both be even, or both be odd."
    elif set(spec.divisors) != {stride}:
        problem = f"Along each axis the product of the strides must be the option stride, {stride}."
    elif any(set(kernel) != {1} for kernel in spec.kernels[1:]) or set(spec.kernels[0]) not in ({1}, {patch}):
        problem = f"The first kernel must be ones or the option patch, {patch}; all others must be ones."
    else:
        return
    raise UsageError(problem, where=spec.name, remedy="Correct the network in plan.json, or plan again.")
