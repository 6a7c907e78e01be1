"""One spacing, crop, normalisation and interpolation for both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from autospine.core.plan import Plan
from autospine.io import documents
from benchmarks import same_network

_FUNCTION: Final = "resample_data_or_seg_to_shape"


def write_plans(folder: Path, spacing: float) -> Plan:
    """Write autospine's plan, nnU-Net's, and the description of the data set into a folder.

    Args:
        folder: Where to; it is made.
        spacing: Of the network's images in mm, along all axes.
    """
    shared = same_network.shared_plan()
    configuration = replace(shared.configurations[0], spacing=(spacing,) * 3)
    plan = replace(shared, configurations=(configuration,), ignore_border=True)
    folder.mkdir(parents=True, exist_ok=True)
    documents.save(folder / "plan.json", plan)
    same_network.write_peer_plans(folder, plan, peer_plans(plan))
    return plan


def peer_plans(plan: Plan) -> dict[str, Any]:
    """The plan as nnU-Net writes it, with its defaults: cubic for images, linear for labels and logits."""
    plans = same_network.peer_plans(plan)
    configuration = plan.configurations[0]
    normalisation = configuration.normalisation[0]
    plans["foreground_intensity_properties_per_channel"] = {
        "0": {
            "mean": normalisation.mean,
            "std": normalisation.std,
            "percentile_00_5": normalisation.lower,
            "percentile_99_5": normalisation.upper,
        }
    }
    plans["configurations"][configuration.name] |= {
        "spacing": list(configuration.spacing),
        **_resampling("data", is_seg=False, order=3),
        **_resampling("seg", is_seg=True, order=1),
        **_resampling("probabilities", is_seg=False, order=1),
    }
    return plans


def _resampling(what: str, *, is_seg: bool, order: int) -> dict[str, Any]:
    settings = {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}
    return {f"resampling_fn_{what}": _FUNCTION, f"resampling_fn_{what}_kwargs": settings}
