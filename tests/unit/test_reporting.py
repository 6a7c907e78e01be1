import io

import pytest

from autospine.core.table import duration
from autospine.reporting import Reporter
from autospine.trainers.checkpoint import EpochRecord
from autospine.trainers.progress import epoch_line, write_log, write_plot


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_appears_on_a_terminal_only():
    for stream, expected in ((Terminal(), True), (io.StringIO(), False)):
        with Reporter(stream=stream).bar(3, "work") as advance:
            for i in range(3):
                advance(f"case {i}")
        assert ("work" in stream.getvalue()) is expected


def test_lines_appear_now_and_then_elsewhere(monkeypatch):
    monkeypatch.setattr("autospine.reporting._SECONDS_BETWEEN_LINES", 0.0)
    stream = io.StringIO()
    with Reporter(stream=stream).bar(2, "work") as advance:
        advance("first")
        advance("")
    assert stream.getvalue() == "work: 1/2 first\nwork: 2/2\n"


def test_quiet_says_nothing():
    stream = Terminal()
    reporter = Reporter(quiet=True, stream=stream)
    reporter.say("hello")
    with reporter.bar(2, "work") as advance:
        advance("")
    assert stream.getvalue() == ""


def test_an_epochs_line_tells_loss_dice_skipped_steps_and_time_left():
    record = EpochRecord(1, 0.005, 1.25, 1.5, 0.5, 0.4, 2, 10.0)
    line = epoch_line("3d_fullres fold 0", record, "2/4", 20.0)
    assert "epoch 2/4" in line
    assert "loss 1.2500 val 1.5000 dice 0.500" in line
    assert "skipped 2" in line
    assert "20 s left" in line


@pytest.mark.parametrize(("waiting", "said"), [(0.0, False), (1.0, False), (2.5, True)])
def test_an_epochs_line_tells_much_waiting_and_what_helps(waiting, said):
    record = EpochRecord(1, 0.005, 1.25, 1.5, 0.5, 0.4, 0, 10.0, waiting)
    line = epoch_line("3d_fullres fold 0", record, "2/4", 20.0)
    assert ("25% waiting for batches" in line or "--schedule.workers" in line) == said


def test_durations_read_well():
    assert [duration(s) for s in (5, 150, 7200)] == ["5 s", "2 min", "2.0 h"]


def test_log_and_plot_are_written(tmp_path):
    history = [EpochRecord(i, 0.01, 2 - i / 2, 2 - i / 3, i / 3, i / 4, 0, 1.0) for i in range(3)]
    write_log(tmp_path / "log.jsonl", history)
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 3
    write_plot(tmp_path / "progress.png", "3d_fullres fold 0", history)
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
