"""One plain U-Net for both sides: autospine's plan of it, nnU-Net's, and the weights of one in the other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from autospine.core.dataset import LabelSchema
from autospine.core.plan import Configuration, NetworkSpec, Normalisation, Plan
from autospine.io import documents
from autospine.io.images import read_image, read_labels
from autospine.io.raw_dataset import load_dataset
from autospine.planners import rules
from autospine.preprocessing import preprocess_image, preprocess_labels
from autospine.weights import save_tensors

#: Voxels along z, y, x, and their edge in mm.
PATCH: Final = (112, 56, 48)
SPACING: Final = 0.8
BATCH: Final = 2
#: HU: clipped to the first two; then mean and standard deviation. Close to what data sets of spines have.
_BONE: Final = Normalisation("ct", lower=-150.0, upper=1200.0, mean=250.0, std=250.0)
#: What air is after that.
AIR: Final = (_BONE.lower - _BONE.mean) / _BONE.std

#: autospine's names of parameters, and nnU-Net's.
_NAMES: Final = (
    (r"encoder\.(\d+)\.(\d+)\.(.*)", r"encoder.stages.\1.0.convs.\2.\3"),
    (r"decoder\.(\d+)\.(\d+)\.(.*)", r"decoder.stages.\1.convs.\2.\3"),
    (r"upsamplings\.(.*)", r"decoder.transpconvs.\1"),
    (r"heads\.(.*)", r"decoder.seg_layers.\1"),
)


@dataclass(frozen=True)
class Scan:
    """A scan with its mask, as a network sees it.

    Args:
        image: float32 of shape (1, z, y, x), normalised, on the scan's own grid in canonical orientation.
        labels: Channel indices of shape (z, y, x).
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int8]

    def around_column(self, shape: tuple[int, ...]) -> Scan:
        """A box of ``shape`` in the middle of the scan's height and around the column there."""
        middle = self.labels.shape[0] // 2
        slab = self.labels[middle - shape[0] // 2 : middle + shape[0] // 2]
        centre = (middle, *(int(np.median(where)) for where in np.nonzero(slab > 0)[1:]))
        starts = [
            min(max(c - n // 2, 0), length - n)
            for c, n, length in zip(centre, shape, self.labels.shape, strict=True)
        ]
        box = tuple(slice(a, a + n) for a, n in zip(starts, shape, strict=True))
        return Scan(
            np.ascontiguousarray(self.image[(slice(None), *box)]), np.ascontiguousarray(self.labels[box])
        )


def shared_plan() -> Plan:
    """The plan with one configuration: nnU-Net's network and schedule for the patch, 27 classes."""
    schema = LabelSchema.vertebral_column()
    network = rules.unet("plain_unet", rules.topology([SPACING] * 3, PATCH), (2,), 2)
    configuration = Configuration(
        name="3d_fullres",
        axes=(0, 1, 2),
        spacing=(None, None, None),
        patch=PATCH,
        batch_size=BATCH,
        median_shape=(450.0, 200.0, 190.0),
        network=network,
        crop="nonzero",
        normalisation=(_BONE,),
        padding=(AIR,),
        mirror_axes=(),
        batch_dice=False,
    )
    return Plan("same network", "by hand", schema, tuple(sorted(schema.names)), (configuration,))


def first_scan(dataset: Path) -> Scan:
    """The first training case of a raw data set."""
    plan, case = shared_plan(), load_dataset(dataset).training[0]
    assert case.label is not None, "a training case has a mask"
    image, trace = preprocess_image(read_image(case.image), plan.configurations[0])
    return Scan(image, preprocess_labels(read_labels(case.label), trace, plan.classes))


def write_network(folder: Path, network: nn.Module) -> None:
    """Write plan, weights and peer's plan, data set description and weights into a folder."""
    plan = shared_plan()
    documents.save(folder / "plan.json", plan)
    save_tensors(folder / "weights.safetensors", network.state_dict())
    # numpy's format cannot hold bfloat16, but weights are in single precision on both sides.
    arrays: dict[str, Any] = {name: v.numpy() for name, v in peer_state(network.state_dict()).items()}
    np.savez(folder / "peer_weights.npz", **arrays)
    write_peer_plans(folder, plan, peer_plans(plan))


def write_peer_plans(folder: Path, plan: Plan, plans: Mapping[str, Any]) -> None:
    """Write a plan as nnU-Net writes it, and its description of the data set, into a folder."""
    for name, content in (("peer_plans.json", plans), ("peer_dataset.json", peer_dataset(plan))):
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def peer_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A plain U-Net's weights under the names that they have in nnU-Net's."""
    return {_peer_name(name): value for name, value in state.items()}


def _peer_name(name: str) -> str:
    for ours, theirs in _NAMES:
        if re.fullmatch(ours, name):
            return re.sub(ours, theirs, name)
    raise KeyError(name)


def peer_plans(plan: Plan) -> dict[str, Any]:
    """The same plan as nnU-Net writes it, as far as networks, losses and predictions depend on it."""
    configuration = plan.configurations[0]
    return {
        "dataset_name": "Dataset900_Same",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            configuration.name: {
                "data_identifier": f"nnUNetPlans_{configuration.name}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": configuration.batch_size,
                "patch_size": list(configuration.patch),
                "spacing": [SPACING] * 3,
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "batch_dice": configuration.batch_dice,
                "architecture": _peer_architecture(configuration.network),
            }
        },
    }


def peer_dataset(plan: Plan) -> dict[str, Any]:
    """The description of a data set of these classes, as nnU-Net wants it."""
    labels = {name: value for value, name in plan.labels.names.items()}
    return {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}


def _peer_architecture(network: NetworkSpec) -> dict[str, Any]:
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        "arch_kwargs": {
            "n_stages": len(network.features),
            "features_per_stage": list(network.features),
            "kernel_sizes": [list(kernel) for kernel in network.kernels],
            "strides": [list(stride) for stride in network.strides],
            "n_conv_per_stage": list(network.encoder_blocks),
            "n_conv_per_stage_decoder": list(network.decoder_blocks),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }
