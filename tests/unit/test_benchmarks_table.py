from dataclasses import replace

import pytest

from benchmarks.measuring import Measurement
from benchmarks.table import Row, Table, beyond_baseline

VERSIONS = {"ours": {"autospine": "0.1.0"}, "theirs": {"nnunetv2": "2.8.1"}}


def runs(*seconds, gigabytes=1.0, baseline=None):
    size = int(gigabytes * 1e9)
    return tuple(Measurement(s, size, size, baseline, "") for s in seconds)


def row(step="export", ours=(1.0, 4.0, 2.0), theirs=(21.0, 20.0, 25.0), **others):
    known = Row(
        step=step,
        work="logits to a mask",
        peer="nnunet",
        date="2026-01-31",
        device="CPU",
        processor="a processor",
        cores=2,
        threads=2,
        target=10.0,
        memory_target="half",
        ours=runs(*ours, gigabytes=0.5, baseline=200_000_000),
        theirs=runs(*theirs, gigabytes=2.0),
        versions=VERSIONS,
        comparison={"dice": 0.9999, "note": "alike"},
    )
    return replace(known, **others)


def test_ratios_are_those_of_the_medians():
    assert row().ratio == 21 / 2
    assert row().memory_ratio == 4


def test_memory_beyond_the_baseline_is_known_only_when_every_run_tells_it():
    assert beyond_baseline(row().ours) == pytest.approx(0.3e9)
    assert beyond_baseline(row().theirs) is None


def test_the_table_shows_medians_spreads_memory_and_agreement():
    text = Table((row(),)).markdown()
    assert (
        "| export | 2 (1 to 4) | 21 (20 to 25) | **10.5** | 10 | 0.50 / 0.30 | 2.00 | 4.0 | CPU | 2 "
        "| 2026-01-31 |" in text
    )
    for shown in ("dice: 0.9999", "note: alike", "nnunetv2 2.8.1", "3 runs a side, 2 threads", "half"):
        assert shown in text


def test_rows_measured_earlier_are_kept_in_the_order_of_the_steps(tmp_path):
    table = Table().with_row(row("evaluation")).with_row(row("export")).with_row(row("preprocessing"))
    table.save(tmp_path)
    newer = Table.load(tmp_path / "speed.json").with_row(row("export", date="2026-02-01"))
    newer.save(tmp_path)
    rows = Table.load(tmp_path / "speed.json").rows
    assert [(r.step, r.date) for r in rows] == [
        ("preprocessing", "2026-01-31"),
        ("export", "2026-02-01"),
        ("evaluation", "2026-01-31"),
    ]
    assert rows == newer.rows
    assert (tmp_path / "speed.md").read_text(encoding="utf-8") == newer.markdown()


def test_there_is_a_table_before_anything_was_measured(tmp_path):
    assert Table.load(tmp_path / "speed.json") == Table()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1.0, "1"), (217.0, "217"), (0.99993, "0.99993"), (3.3e-16, "3.3e-16"), (15.63, "15.6")],
)
def test_figures_keep_the_digits_that_say_something(value, shown):
    assert f"- figure: {shown}\n" in Table((row(comparison={"figure": value}),)).markdown()
