"""Why a plan for spines is as it is, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autospine.core.plan import Configuration, Reason

from .allowance import Allowance
from .patches import covered
from .survey import Survey


def explain(
    survey: Survey, allowance: Allowance, configurations: Sequence[Configuration]
) -> tuple[Reason, ...]:
    """One reason per decision, in the order a reader wonders."""
    by_name = {configuration.name: configuration for configuration in configurations}
    return (
        *_data(survey),
        *_grid(survey, allowance, by_name["3d_fullres"]),
        *(_patch(survey, allowance, c) for c in configurations if c.previous_stage is None),
        _stages(survey, by_name),
        Reason(
            "2d planes",
            "sagittal",
            "a sagittal plane shows the whole column; all three axes are resampled, so planes lie evenly",
        ),
        _mirroring(survey),
        *_naming(survey),
        _network(allowance, by_name["3d_fullres"]),
        _schedule(by_name["3d_fullres"]),
    )


def _data(survey: Survey) -> Iterator[Reason]:
    absent = f"; none of {', '.join(survey.absent)} to learn from" if survey.absent else ""
    yield Reason("classes", f"{len(survey.classes)}", f"background and the labels that occur{absent}")
    yield Reason("crop", "body", "table and outside air teach nothing; CT has no zeros to crop to")
    cases = survey.fingerprint.cases
    odd = sum(not case.plausible_hu for case in cases)
    if odd:
        yield Reason(
            "intensities to check",
            f"{odd} of {len(cases)} scans",
            "they do not look like Hounsfield units; check their rescale intercept",
        )
    for channel in survey.normalisation:
        if channel.kind == "ct":
            yield Reason(
                "intensities",
                f"{channel.lower:.0f}..{channel.upper:.0f} HU around {channel.mean:.0f} +- {channel.std:.0f}",
                "0.5 and 99.5 percentile, mean and spread of the labelled voxels of all cases",
            )
            yield Reason("padding", "air", "outside the scan there is air, not bone of mean density")
        else:
            yield Reason("intensities", "z-score of each image", "the channel is not CT")


def _grid(survey: Survey, allowance: Allowance, full: Configuration) -> Iterator[Reason]:
    rule = f"the cases' median is {_mm(list(survey.target))}"
    if allowance.budget.device == "cpu":
        rule += f"; within {allowance.limit} finer voxels would leave too few steps to learn from"
    yield Reason("spacing", _mm(full.spacing), rule)
    if full.axes != (0, 1, 2):
        yield Reason(
            "axis order",
            " ".join("zyx"[axis] for axis in full.axes),
            "one axis is more than three times coarser; it comes first and is augmented and resampled apart",
        )


def _patch(survey: Survey, allowance: Allowance, configuration: Configuration) -> Reason:
    extent = covered(configuration)
    size, spacing = _mm(list(extent.values())), _mm(configuration.spacing[-configuration.dimensions :])
    vertebrae = extent[0] / survey.pitch
    return Reason(
        f"{configuration.name} patch",
        f"{' x '.join(map(str, configuration.patch))} voxels, batch {configuration.batch_size}",
        f"its {size} at {spacing} show {vertebrae:.0f} vertebrae of {survey.pitch:.0f} mm, "
        f"within {allowance.limit}",
    )


def _stages(survey: Survey, by_name: dict[str, Configuration]) -> Reason:
    region = f"the {_mm(survey.region)} that tell where along the column one is"
    if "3d_lowres" in by_name:
        return Reason("low-resolution stage", "yes", f"a full-resolution patch does not show {region}")
    return Reason("low-resolution stage", "no", f"a full-resolution patch shows most of {region}")


def _mirroring(survey: Survey) -> Reason:
    if survey.fingerprint.labels.left_right:
        return Reason("mirroring", "none", "some labels have a side, which a mirror image exchanges")
    return Reason(
        "mirroring",
        "left-right in 3D, none in 2D",
        "a spine upside down or back to front does not exist and teaches wrong levels",
    )


def _naming(survey: Survey) -> Iterator[Reason]:
    if survey.column is None:
        return
    yield Reason(
        "names",
        "by body centres and the whole column",
        f"{len(survey.column.levels)} levels; voxels alone mix neighbours and shift columns by a level",
    )
    if survey.cut_labelled:
        yield Reason("cut vertebrae", "kept", "the data set labels vertebrae that the border cuts")
    else:
        because = "the data set leaves them unlabelled, which the network must not learn"
        yield Reason("cut vertebrae", "ignored in training, dropped from predictions", because)


def _network(allowance: Allowance, full: Configuration) -> Reason:
    value = f"{full.network.name}, {full.network.features[0]} to {full.network.features[-1]} features"
    if allowance.budget.device == "cuda":
        return Reason("network", value, "residual encoders are nnU-Net's recommended networks since 2024")
    return Reason("network", value, "fills a CPU's vector registers; one convolution where voxels are most")


def _schedule(full: Configuration) -> Reason:
    schedule = full.schedule
    value = f"{schedule.epochs} epochs of {schedule.steps} steps, {schedule.optimiser}"
    if schedule.optimiser == "sgd":
        return Reason("schedule", value, "nnU-Net's")
    return Reason("schedule", value, "short, for a CPU: expect less than from a GPU training")


def _mm(lengths: Sequence[float | None]) -> str:
    return " x ".join("?" if length is None else f"{length:.3g}" for length in lengths) + " mm"
