"""A run that is killed again and again ends like one that nothing disturbed."""

import signal
import subprocess
import sys
import time

import pytest

#: What exists when the run is in the middle of preprocessing, of an epoch, of the validation and of the
#: choice of the ensemble.
MOMENTS = (
    "preprocessed/*/*.json",
    "models/3d_lowres/fold_1/checkpoint/latest.safetensors",
    "models/3d_fullres/fold_0/validation/*.b2nd",
    "ensembling/*/*.json",
)
_PATIENCE_SECONDS = 300


def command(dataset, folder, options):
    return [sys.executable, "-m", "autospine", "plan-and-train", str(dataset), "-o", str(folder), *options]


def kill_when(arguments, folder, pattern):
    """Start the run and kill it as soon as a file appears; returns its exit code."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and not any(folder.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    return process.wait()


@pytest.fixture(scope="module")
def killed_run(dataset, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed") / "run"
    arguments = command(dataset, folder, options)
    codes = [kill_when(arguments, folder, moment) for moment in MOMENTS]
    assert codes == [-signal.SIGKILL] * len(MOMENTS), "the run was over before it could be killed"
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return folder


def files(folder):
    """Everything but what holds times of day and durations."""
    varying = {"run.json", "log.jsonl", "progress.png"}
    return {
        p.relative_to(folder): p
        for p in folder.rglob("*")
        if p.is_file() and p.name not in varying and "checkpoint" not in p.parts
    }


def test_the_results_are_those_of_an_undisturbed_run_bit_for_bit(killed_run, finished_run):
    killed, undisturbed = files(killed_run), files(finished_run)
    assert killed.keys() == undisturbed.keys()
    different = [str(name) for name in killed if killed[name].read_bytes() != undisturbed[name].read_bytes()]
    assert different == []


def test_no_half_written_file_is_left(killed_run):
    assert not list(killed_run.rglob(".partial-*"))
