"""nnU-Net v2.8.1's own plans, made by its planners, and the fingerprints they were made from.

``golden_plans.json`` holds seven data sets (CT, one channel; spacings and shapes in array order), each
planned by ``ExperimentPlanner`` for 8 and 16 GB and by ``nnUNetPlannerResEncM``, ``L`` and ``XL``. Each
plan is nnU-Net's answer in a fresh folder: where a plans file is there already, nnU-Net keeps its
configurations even if the new plan would not have them.
"""

import json
from dataclasses import replace
from pathlib import Path

from autospine.core.dataset import LabelSchema
from autospine.core.fingerprint import CaseFingerprint, Fingerprint, Intensities

FOREGROUND = Intensities(
    mean=300.0,
    median=260.0,
    std=210.0,
    minimum=-300.0,
    maximum=1900.0,
    percentile_00_5=-60.0,
    percentile_99_5=1200.0,
)

SEEN = CaseFingerprint(
    identifier="case",
    spacing=(1.0, 1.0, 1.0),
    shape=(320, 250, 250),
    shape_nonzero=(320, 250, 250),
    shape_body=(320, 250, 250),
    orientation="SPL",
    levels=(1,),
    cut_levels=(),
    spine_extent=(300.0, 90.0, 90.0),
    body_pitch=30.0,
    background_hu=-1000.0,
    plausible_hu=True,
)


def case(spacing, shape, **fields):
    """A case whose crops all keep the whole scan."""
    z, y, x = shape
    whole = (z, y, x)
    made = replace(SEEN, spacing=tuple(spacing), shape=whole, shape_nonzero=whole, shape_body=whole)
    return replace(made, **fields)


def fingerprint(spacings, shapes, labels, channels=("CT",), **fields):
    """A fingerprint of as many cases as there are spacings."""
    cases = tuple(
        case(spacing, shape, identifier=str(number), **fields)
        for number, (spacing, shape) in enumerate(zip(spacings, shapes, strict=True))
    )
    schema = labels if isinstance(labels, LabelSchema) else schema_of(labels)
    return Fingerprint("golden", schema, channels, cases, (FOREGROUND,) * len(channels))


def schema_of(count):
    """A schema with ``count`` values, background included."""
    return LabelSchema({0: "background"} | {value: f"label {value}" for value in range(1, count)})


def load():
    """(data set's name, planner's name, fingerprint, nnU-Net's plan) of every golden plan."""
    data_sets = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    for data_set in data_sets:
        spacings, shapes = data_set["spacings"], data_set["shapes"]
        if len(spacings) == 1:
            spacings, shapes = spacings * data_set["num_cases"], shapes * data_set["num_cases"]
        made = fingerprint(spacings, shapes, data_set["num_classes"])
        for planner, plan in data_set["plans"].items():
            yield data_set["name"], planner, made, plan
