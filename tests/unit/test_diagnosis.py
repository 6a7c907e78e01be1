import json
import sys

import pytest

from autospine import diagnosis
from autospine.cli.doctor import doctor
from autospine.diagnosis import Finding

GB = 10**9


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (diagnosis.check_python((3, 11, 0)), "ok"),
        (diagnosis.check_python((3, 10, 12)), "problem"),
        (diagnosis.check_torch("2.13.0+cpu"), "ok"),
        (diagnosis.check_torch("2.9.1"), "warning"),
        (diagnosis.check_gpu("a card", 24 * GB), "ok"),
        (diagnosis.check_gpu("a card", 4 * GB), "warning"),
        (diagnosis.check_mixed_precision(half=0.5, single=1.0), "ok"),
        (diagnosis.check_mixed_precision(half=4.0, single=1.0), "warning"),
        (diagnosis.check_cores(2), "ok"),
        (diagnosis.check_cores(1), "warning"),
        (diagnosis.check_memory(32 * GB), "ok"),
        (diagnosis.check_memory(2 * GB), "warning"),
    ],
)
def test_verdicts(finding, verdict):
    assert finding.verdict == verdict
    assert bool(finding.remedy) == (verdict != "ok")


def free(amount):
    return lambda _: type("usage", (), {"free": amount, "total": amount})


@pytest.mark.parametrize(("amount", "verdict"), [(500 * GB, "ok"), (GB, "warning")])
def test_disk(monkeypatch, tmp_path, amount, verdict):
    monkeypatch.setattr("shutil.disk_usage", free(amount))
    finding = diagnosis.check_disk(tmp_path)
    assert finding.verdict == verdict
    assert str(tmp_path) in finding.found


@pytest.mark.parametrize(("amount", "verdict"), [(8 * GB, "ok"), (64 * 10**6, "warning")])
def test_shared_memory(monkeypatch, tmp_path, amount, verdict):
    monkeypatch.setattr("shutil.disk_usage", free(amount))
    (finding,) = diagnosis.check_shared_memory(tmp_path)
    assert finding.verdict == verdict


def test_a_system_without_shared_memory_folder_is_not_judged(tmp_path):
    assert list(diagnosis.check_shared_memory(tmp_path / "absent")) == []


@pytest.fixture
def required(monkeypatch):
    """Sets what autospine is said to require."""
    return lambda *lines: monkeypatch.setattr(diagnosis, "requires", lambda _: list(lines))


def test_libraries_are_checked_against_what_is_required(required):
    required("numpy>=1.26", "numpy<1", "no-such-thing>=2", 'no-such-thing-either; extra == "dev"')
    fine, old, absent = diagnosis.check_libraries()
    assert fine.verdict == "ok"
    assert (old.verdict, old.remedy) == ("problem", "pip install 'numpy<1'")
    assert (absent.found, absent.remedy) == ("not installed", "pip install 'no-such-thing>=2'")


def test_an_incomplete_installation_is_the_only_finding(required):
    required("no-such-thing")
    assert [finding.subject for finding in diagnosis.examine()] == ["Python", "no-such-thing"]


def test_a_missing_torch_is_a_finding_and_no_crash(monkeypatch, required, capsys):
    required("no-such-torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor() == 1
    assert "-> pip install 'no-such-torch'" in capsys.readouterr().out


def test_this_machine_is_fit(tmp_path):
    findings = diagnosis.examine(tmp_path)
    assert not [finding for finding in findings if finding.verdict == "problem"]
    assert {"Python", "torch", "device", "precision", "cores", "memory", "disk"} <= {
        f.subject for f in findings
    }


def test_a_fit_machine_exits_with_zero_and_speaks_json(capsys):
    assert doctor(json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"subject", "verdict", "found", "remedy"} == set(told[0])


@pytest.mark.gpu
def test_the_gpu_s_mixed_precision_is_timed():
    assert [finding.subject for finding in diagnosis.check_device()] == [
        "device",
        "precision",
        "mixed precision",
    ]


def test_a_remedy_stands_under_its_finding():
    assert str(Finding("cores", "warning", "1 usable", "Give two.")) == (
        "warning  cores: 1 usable\n         -> Give two."
    )
    assert str(Finding("cores", "ok", "2 usable")) == "ok       cores: 2 usable"
