import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import side_by_side
from benchmarks.agreement import differing_share, mean_dice
from benchmarks.peer import constraints
from benchmarks.step import NAMES, Step, find, script
from benchmarks.table import Table

_SCRIPT = """
import json, sys
from pathlib import Path
inputs, output = Path(sys.argv[1]), Path(sys.argv[2])
with (inputs / "order").open("a") as order:
    order.write("{side} ")
if {fails}:
    raise ValueError("{side} cannot do this")
(output / "result.json").write_text(json.dumps({{"seconds": {seconds}}}))
"""


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A step whose scripts only write down that they were called."""

    def write(name, *, failing=""):
        for side, seconds in (("ours", 2.0), ("theirs", 8.0)):
            code = _SCRIPT.format(side=side, seconds=seconds, fails=side == failing)
            (tmp_path / f"{name}_{side}.py").write_text(code, encoding="utf-8")
        return Step(name, "a demonstration", 3.0, prepare, compare)

    def prepare(work):
        (work / "inputs").mkdir(exist_ok=True)
        return work / "inputs"

    def compare(inputs, ours, theirs):
        sides = [json.loads((side / "result.json").read_text(encoding="utf-8")) for side in (ours, theirs)]
        return {"apart": np.float32(sides[1]["seconds"] - sides[0]["seconds"]), "inputs": inputs.name}

    monkeypatch.setattr(side_by_side, "script", lambda side, name: tmp_path / f"{name}_{side}.py")
    monkeypatch.setattr(side_by_side, "_PACKAGES", {"nnunet": "numpy", "surface-distance": "numpy"})
    return write


def call(tmp_path, *names, repeats=3):
    peer = ["--peer-python", sys.executable, "--repeats", str(repeats)]
    return command.main(
        [*names, *peer, "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    )


def test_both_sides_run_in_turn_and_make_a_row(tmp_path, demo, monkeypatch):
    monkeypatch.setattr(command, "find", demo)
    assert call(tmp_path, "export") == 0
    assert (tmp_path / "work" / "inputs" / "order").read_text() == "ours theirs " * 3
    (row,) = Table.load(tmp_path / "results" / "speed.json").rows
    assert (row.ratio, len(row.ours), len(row.theirs)) == (4.0, 3, 3)
    assert row.comparison == {"apart": 6.0, "inputs": "inputs"}
    assert row.versions["ours"].keys() == {"python", "autospine", "torch", "numpy"}


def test_a_step_that_fails_says_which_side_and_the_others_go_on(tmp_path, demo, monkeypatch, capsys):
    monkeypatch.setattr(command, "find", lambda name: demo(name, failing="theirs" * (name == "export")))
    assert call(tmp_path, "export", "evaluation", repeats=1) == 1
    said = capsys.readouterr().err
    assert "theirs of the step export ended with the code 1" in said
    assert "ValueError: theirs cannot do this" in said
    assert [row.step for row in Table.load(tmp_path / "results" / "speed.json").rows] == ["evaluation"]


def test_a_step_whose_inputs_fail_does_not_stop_the_others(tmp_path, demo, monkeypatch, capsys):
    def no_inputs(work):
        raise OSError("the disk is full")

    steps = {"export": replace(demo("export"), prepare=no_inputs), "evaluation": demo("evaluation")}
    monkeypatch.setattr(command, "find", steps.get)
    assert call(tmp_path, "export", "evaluation", repeats=1) == 1
    assert "The step export has failed" in capsys.readouterr().err
    assert len(Table.load(tmp_path / "results" / "speed.json").rows) == 1


def test_without_a_name_the_steps_are_listed(capsys):
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)


def test_an_unknown_step_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["exports"])
    assert "no step 'exports'; there are preprocessing" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_complete(name):
    step = find(name)
    assert step.name == name
    assert all(script(side, name).is_file() for side in ("ours", "theirs"))


@pytest.mark.parametrize("name", NAMES)
def test_no_peer_imports_autospine(name):
    lines = script("theirs", name).read_text(encoding="utf-8").splitlines()
    imports = [line for line in lines if line.lstrip().startswith(("import ", "from "))]
    assert not [line for line in imports if "autospine" in line or "benchmarks" in line]


def test_both_sides_share_the_libraries_that_compute(root):
    same = constraints((root / "requirements.lock").read_text(encoding="utf-8"))
    names = {line.partition("==")[0].lower() for line in same}
    assert {"torch", "numpy", "scipy", "scikit-image", "simpleitk", "blosc2", "acvl_utils"} <= names
    assert constraints("# torch==1\nNumPy==2\nruff==3\nacvl-utils==1\n") == ["NumPy==2", "acvl-utils==1"]


def test_agreement_is_counted_label_by_label():
    first = np.array([0, 1, 1, 2, 2, -1])
    second = np.array([0, 1, 0, 2, 2, 3])
    assert mean_dice(first, second) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert mean_dice(first * 0, second * 0) == 1
    assert differing_share(first, second) == pytest.approx(2 / 6)
