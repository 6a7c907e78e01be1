"""The container's recipe and what it runs, as far as that can be told without a container."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autospine.cli import main as cli
from autospine.core import anatomy
from autospine.core.geometry import Grid
from autospine.io.images import write_image

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "container"
GRID = Grid((12, 10, 8), (2.0, 1.0, 1.0))

_SPEC = importlib.util.spec_from_file_location("container_predict", FOLDER / "predict.py")
predict = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(predict)


def instructions():
    """The Dockerfile's instructions: keyword and the rest, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def copied():
    sources = [source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]]
    return [source for source in sources if "$" not in source]


def test_everything_that_is_copied_exists():
    assert copied()
    assert [source for source in copied() if not (ROOT / source).exists()] == []


def test_all_that_the_package_is_made_of_is_copied():
    assert {"autospine", "planners", "trainers", "dataset_conversion"} <= set(copied())
    assert {"pyproject.toml", "README.md", "LICENSE", "requirements.lock"} <= set(copied())


def test_nothing_that_is_copied_is_left_out_of_the_context():
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert not set(copied()) & set(ignored)


def test_the_recipe_is_locked_and_does_not_run_as_root():
    lines = instructions()
    assert lines[0] == ("FROM", "python:3.12-slim")
    assert all("--constraint requirements.lock" in rest for _, rest in lines if "pip install" in rest)
    words = [word for word, _ in lines]
    assert max(i for i, word in enumerate(words) if word in ("RUN", "COPY")) < words.index("USER")
    assert dict(lines)["USER"] != "root"


def test_the_recipe_names_no_host():
    for path in FOLDER.iterdir():
        if path.is_file():
            assert not re.search(r"https?://|index-url", path.read_text(encoding="utf-8")), path


def labels():
    mask = np.zeros(GRID.shape, np.uint8)
    mask[6:10, 3:8, 2:6] = anatomy.label_of("L4")
    mask[1:5, 3:8, 2:6] = anatomy.label_of("L5")
    return mask


def runner(commands, code=0, fails_on=""):
    """Runs real commands but for ``predict``, which puts the same mask beside every scan."""

    def run(arguments):
        commands.append(list(arguments))
        if arguments[0] != "predict":
            return cli.run(arguments)
        source, target = (Path(arguments[arguments.index(o) + 1]) for o in ("--input", "--output"))
        for scan in source.rglob("*.nii.gz"):
            if "results" not in str(scan) and not (fails_on and fails_on in scan.name):
                write_image(target / scan.name, labels(), GRID)
        return code

    return run


def scans(folder, *names):
    for name in names:
        write_image(folder / name, labels().astype(np.int16) * 10, GRID)
    return folder


@pytest.mark.parametrize(
    ("names", "results"),
    [
        (
            ["verse014.nii.gz", "verse015.nii.gz"],
            [
                "results/verse014_ctd.json",
                "results/verse014_seg.nii.gz",
                "results/verse015_ctd.json",
                "results/verse015_seg.nii.gz",
            ],
        ),
        (
            ["verse512/verse512_CT-iso.nii.gz"],
            [
                "results_us/verse512/verse512_CT-iso_ctd.json",
                "results_us/verse512/verse512_CT-iso_seg.nii.gz",
            ],
        ),
    ],
)
def test_either_challenge_is_recognised_and_served(tmp_path, names, results):
    data, commands = scans(tmp_path / "data", *names), []
    arguments = ["--data", str(data), "--team", "us", "--model", "m"]
    for _ in range(2):  # a second run replaces its own results
        assert predict.main(arguments, runner(commands)) == 0
        found = [path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()]
        assert sorted(found) == sorted([*names, *results])
    challenge = "verse19" if len(names) == 2 else "verse20"
    assert cli.run(["submit", challenge, "--check", str(data), "-i", str(data), "--quiet"]) == 0
    assert [command[0] for command in commands] == ["predict", "submit"] * 2
    understood = cli.make_app().parse_args(commands[0], exit_on_error=False)
    assert understood[1].kwargs["model"] == Path("m")


def test_scans_that_could_not_be_predicted_do_not_stop_the_others(tmp_path):
    data = scans(tmp_path / "data", "verse014.nii.gz", "verse015.nii.gz")
    assert predict.main(["--data", str(data)], runner([], 3, fails_on="015")) == 3
    assert sorted(path.name for path in (data / "results").iterdir()) == [
        "verse014_ctd.json",
        "verse014_seg.nii.gz",
    ]


def test_a_failed_prediction_is_not_submitted(tmp_path):
    data, commands = scans(tmp_path / "data", "verse014.nii.gz"), []
    assert predict.main(["--data", str(data)], runner(commands, 1)) == 1
    assert [command[0] for command in commands] == ["predict"]
    shutil.rmtree(data)
    scans(data, "verse014.nii.gz")
    assert predict.main(["--data", str(data)], runner(commands, 0, fails_on="014")) == 3


def test_it_runs_as_a_program(tmp_path):
    """With the real commands: there is no model, and the exit code says so."""
    scans(tmp_path, "verse014.nii.gz")
    command = [sys.executable, FOLDER / "predict.py", "--data", tmp_path, "--model", tmp_path / "none"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 3
    assert "Traceback" not in outcome.stderr
