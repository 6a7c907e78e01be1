"""The default planner: nnU-Net's rules, mended where a spine or the device ask for something else.

Every departure is explained in the plan's ``reasons``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from autospine.core.errors import DataError
from autospine.core.fingerprint import Fingerprint
from autospine.core.plan import Budget, Configuration, Plan

from .allowance import Allowance
from .designer import Designer
from .patches import covered
from .reasons import explain
from .survey import Survey

#: A low-resolution stage is planned when a full-resolution patch covers less than this of the region.
_COVERED: Final = 0.75


def plan(fingerprint: Fingerprint, budget: Budget) -> Plan:
    """A plan for spines.

    Args:
        fingerprint: The data set's fingerprint; its cases in canonical orientation.
        budget: Where the networks will run and what they may take.

    Raises:
        DataError: No label occurs.
    """
    survey = Survey.of(fingerprint)
    if len(survey.classes) == 1:
        raise DataError(f"No case of {fingerprint.dataset} shows a label.", remedy="Check the masks.")
    allowance = Allowance(
        budget, len(fingerprint.channels), len(survey.classes), centres=survey.column is not None
    )
    configurations = _configurations(Designer(survey, allowance))
    return Plan(
        dataset=fingerprint.dataset,
        planner="spine",
        labels=fingerprint.labels,
        classes=survey.classes,
        configurations=configurations,
        reasons=explain(survey, allowance, configurations),
        budget=budget,
        column=survey.column,
        ignore_border=survey.column is not None and not survey.cut_labelled,
        partial="keep" if survey.cut_labelled else "drop",
    )


def _configurations(designer: Designer) -> tuple[Configuration, ...]:
    """2D, and one or three in 3D, in the order they are trained."""
    flat = designer.sagittal("2d")
    full = designer.volume("3d_fullres")
    if designer.survey.coverage(covered(full)) >= _COVERED:
        return flat, full
    low = designer.coarse("3d_lowres")
    full = replace(full, batch_dice=True)
    return flat, low, full, replace(full, name="3d_cascade_fullres", previous_stage=low.name)
