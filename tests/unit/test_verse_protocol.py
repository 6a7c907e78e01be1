"""Figures from measures that are made up: no files, no masks."""

import pytest

from autospine.core import anatomy
from autospine.evaluation.identification import centre_distances, official_hits, shift, strict_hits
from autospine.evaluation.verse import CaseMeasures, Missing, VertebraMeasure
from autospine.evaluation.verse_cases import Measured
from autospine.evaluation.verse_report import official_report, strict_report
from autospine.evaluation.verse_summary import summarise_official, summarise_strict

CAP, SKIP, PENALISE = Missing.of("cap"), Missing.of("skip"), Missing.of("penalise")


def heights(**of):
    return {anatomy.label_of(name): (0.0, 0.0, float(z)) for name, z in of.items()}


REFERENCE = heights(L1=0, L2=-30, L3=-60, L4=-90, L5=-120)


def case(reference, prediction, identifier="a", patient=None, dice=0.9, hausdorff=5.0):
    """Measures of a case whose masks hold what its lists of centres hold."""

    def presence(label):
        if label in reference:
            return "both" if label in prediction else "reference"
        return "prediction"

    official, strict = official_hits(reference, prediction), strict_hits(reference, prediction)
    distances = centre_distances(reference, prediction)
    vertebrae = tuple(
        VertebraMeasure(
            label=label,
            name=anatomy.name_of(label),
            centre=presence(label),
            mask=presence(label),
            official=label in official,
            strict=label in strict,
            distance=distances.get(label),
            dice=dice if presence(label) == "both" else 0.0,
            hausdorff=hausdorff if presence(label) == "both" else None,
        )
        for label in sorted(reference.keys() | prediction.keys(), key=anatomy.rank_of)
    )
    found = shift(reference, prediction)
    return CaseMeasures(
        identifier, patient or identifier, bool(prediction), vertebrae, dice, found, "mask", "mask"
    )


def without(*names):
    gone = [anatomy.label_of(name) for name in names]
    return {label: position for label, position in REFERENCE.items() if label not in gone}


def test_per_scan_and_pooled_rates_differ_with_the_length_of_the_scans():
    long, short = case(REFERENCE, without("L5"), "a"), case(heights(L1=0), {}, "b")
    rate = summarise_official([long, short]).identification
    assert rate.scans.mean == pytest.approx((4 / 5 + 0) / 2)
    assert rate.median == pytest.approx(2 / 5)
    assert rate.pooled.mean == pytest.approx(4 / 6)
    assert rate.scans.low <= rate.scans.mean <= rate.scans.high


def test_intervals_are_over_patients():
    cases = [case(REFERENCE, REFERENCE, "a", "p"), case(REFERENCE, {}, "b", "p")]
    assert summarise_official(cases).identification.scans.low is None
    assert summarise_strict(cases, CAP).all_right.high is None


def test_false_positives_cost_nothing_officially_and_much_strictly():
    extra = REFERENCE | heights(T12=30, T11=60, C1=300)
    clean, crowded = case(REFERENCE, REFERENCE), case(REFERENCE, extra)
    assert summarise_official([crowded]) == summarise_official([clean])
    strict = summarise_strict([crowded], CAP)
    assert (strict.hits, strict.vertebrae, strict.predicted, strict.false_positives) == (5, 5, 8, 3)
    assert strict.recall.scans.mean == 1
    assert strict.precision.scans.mean == pytest.approx(5 / 8)
    assert strict.f1.scans.mean == pytest.approx(10 / 13)
    assert strict.f1.pooled.mean == pytest.approx(10 / 13)
    assert strict.dice.scans.mean == pytest.approx(0.9 * 5 / 8)
    assert strict.all_right.mean == 0
    assert summarise_strict([clean], CAP).all_right.mean == 1


def test_the_ranking_of_two_imperfect_predictions_flips():
    # One leaves out every second vertebra and lets the others drift; the other finds two vertebrae well.
    drifting = case(REFERENCE, heights(L1=-19, L3=-79, L5=-120))
    careful = case(REFERENCE, heights(L1=0, L2=-30))
    official = [summarise_official([each]).identification.scans.mean for each in (drifting, careful)]
    strict = [summarise_strict([each], CAP).recall.scans.mean for each in (drifting, careful)]
    assert official == pytest.approx([3 / 5, 2 / 5])
    assert strict == pytest.approx([1 / 5, 2 / 5])


def test_official_distances_of_what_was_missed():
    one_missed, empty = case(REFERENCE, without("L5"), "a"), case(REFERENCE, {}, "b")
    summary = summarise_official([one_missed, empty])
    assert summary.distance.scans.mean == pytest.approx((0 + 1000) / 2)
    assert summary.distance.pooled.mean == 0
    assert summary.hausdorff.scans.mean == pytest.approx(((4 * 5 + 100) / 5 + 100) / 2)
    assert summary.dice.scans.mean == pytest.approx((0.9 * 4 / 5 + 0) / 2)


@pytest.mark.parametrize(
    ("missing", "centre", "hausdorff"),
    [
        (SKIP, (25 + 1) / 2, 120),
        (CAP, (20 + 1 + 20) / 3, 100),
        (PENALISE, (25 + 1 + 1000) / 3, (2 * 120 + 100) / 3),
        (Missing("penalise", 50, 60), (25 + 1 + 50) / 3, (2 * 120 + 60) / 3),
        (Missing("cap", 10, 130), (10 + 1 + 10) / 3, (2 * 120 + 130) / 3),
    ],
)
def test_policies_for_missed_vertebrae(missing, centre, hausdorff):
    reference = heights(L1=0, L3=-60, L5=-120)
    measured = case(reference, heights(L1=25, L3=-61), hausdorff=120.0)
    summary = summarise_strict([measured], missing)
    assert summary.distance.scans.mean == pytest.approx(centre)
    assert summary.hausdorff.pooled.mean == pytest.approx(hausdorff)
    assert summary.missing == missing


def test_leaving_a_vertebra_out_never_pays_under_cap():
    reference = heights(L1=0, L3=-60)
    for error in (0, 5, 19, 21, 500):
        kept = summarise_strict([case(reference, heights(L1=0, L3=-60 - error))], CAP).distance
        left_out = summarise_strict([case(reference, heights(L1=0))], CAP).distance
        assert kept.scans.mean <= left_out.scans.mean


def test_shifts_are_counted_by_offset():
    down = {label + 1: position for label, position in REFERENCE.items()}
    up = {label: REFERENCE[label + 1] for label in REFERENCE if label + 1 in REFERENCE}
    far = heights(L1=500)
    scans = [REFERENCE, without("L1"), down, up, far, {}]
    cases = [case(REFERENCE, prediction, str(i)) for i, prediction in enumerate(scans)]
    empty = case({}, heights(L1=0), "empty")
    shifts = summarise_strict([*cases, empty], CAP).shifts
    assert shifts == {"-1": 1, "0": 2, "+1": 1, "none": 2}
    assert list(shifts) == ["-1", "0", "+1", "none"]


def test_regions_are_told_apart():
    reference = heights(C7=60, T1=30, T2=0)
    regions = {
        each.region: each
        for each in summarise_strict([case(reference, heights(C7=60, T1=30, T3=-30))], CAP).regions
    }
    assert list(regions) == ["cervical", "thoracic"]
    assert regions["cervical"].recall.mean == regions["cervical"].precision.mean == 1
    thoracic = regions["thoracic"]
    assert (thoracic.vertebrae, thoracic.hits, thoracic.false_positives) == (2, 1, 1)
    assert (thoracic.recall.mean, thoracic.precision.mean) == (1 / 2, 1 / 2)
    assert thoracic.dice.mean == pytest.approx(0.9 / 3)
    assert thoracic.distance.mean == pytest.approx(20 / 2)
    assert thoracic.hausdorff.mean == pytest.approx((5 + 100) / 2)


def test_a_scan_without_vertebrae_enters_no_rate():
    empty, good = case({}, {}, "a"), case(REFERENCE, REFERENCE, "b")
    official, strict = summarise_official([empty, good]), summarise_strict([empty, good], CAP)
    assert official.identification.scans.mean == official.identification.median == 1
    assert official.distance.scans.mean == 0
    assert strict.all_right.mean == 1
    assert strict.shifts == {"0": 1}


def test_nothing_at_all_has_no_figures():
    official, strict = summarise_official([]), summarise_strict([], CAP)
    assert official.identification.scans is None
    assert official.identification.median is None
    assert strict.f1.pooled is None
    assert strict.regions == ()
    assert "-" in official_report(Measured(())).table()
    assert "-" in strict_report(Measured(()), CAP).table()


@pytest.mark.parametrize(
    ("missing", "words"),
    [(SKIP, "means are over the vertebrae found"), (CAP, "20 mm (centre) and 100 mm"), (PENALISE, "1000 mm")],
)
def test_the_report_states_its_policy(missing, words):
    measured = Measured((case(REFERENCE, without("L3")),), ("extra",))
    report = strict_report(measured, missing)
    assert words in report.policy
    assert report.policy in report.table().replace("\n", " ")
    assert "Not scored, no reference: extra" in report.table()
    assert "False positives cost nothing" in official_report(measured).policy
