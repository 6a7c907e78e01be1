import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measuring import Side, SideFailedError, watched

_GRANDCHILD = "import time; held = b'x' * 200_000_000; time.sleep(0.5)"
_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_GRANDCHILD!r}], check=True)"


def side(folder, code, threads=1):
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    return Side("ours of the step demo", Path(sys.executable), script, folder, folder / "out", threads)


def test_the_memory_of_a_whole_tree_of_processes_counts(tmp_path):
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}], check=True)"
    with (tmp_path / "log").open("w") as log:
        code, peak = watched([sys.executable, "-c", parent], log)
    assert code == 0
    assert 200e6 < peak.process < 260e6
    assert peak.process + 5e6 < peak.tree < peak.process + 100e6


def test_what_the_watching_process_holds_does_not_count(tmp_path):
    held = b"x" * 300_000_000
    with (tmp_path / "log").open("w") as log:
        _, peak = watched([sys.executable, "-c", "import time; time.sleep(0.2)"], log)
    assert len(held) > peak.tree > 0


def test_a_short_peak_between_two_looks_is_seen(tmp_path):
    code = "held = b'x' * 150_000_000; del held; import time; time.sleep(0.2)"
    with (tmp_path / "log").open("w") as log:
        _, peak = watched([sys.executable, "-c", code], log)
    assert peak.process > 150e6


def test_a_side_gets_folders_and_threads_and_tells_its_seconds(tmp_path):
    code = (
        "import json, os, sys; from pathlib import Path\n"
        "_, inputs, output, threads = sys.argv\n"
        "assert Path(inputs).is_dir() and not list(Path(output).iterdir())\n"
        "note = ' '.join([threads, os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS']])\n"
        "result = {'seconds': 1.5, 'baseline_bytes': 7, 'note': note, 'more': 3}\n"
        "(Path(output) / 'result.json').write_text(json.dumps(result))\n"
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "of_an_earlier_run").touch()
    measured = side(tmp_path, code, threads=3).measure()
    assert (measured.seconds, measured.baseline_bytes, measured.note) == (1.5, 7, "3 3 3")
    assert measured.peak_bytes >= measured.process_bytes


def test_a_script_does_not_hide_modules_of_its_folder_s_names(tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('this is no library')", encoding="utf-8")
    code = "import json, sys; open(sys.argv[2] + '/result.json', 'w').write(json.dumps({'seconds': 1}))"
    assert side(tmp_path, code).measure().seconds == 1


def test_a_failure_says_which_side_it_was_and_what_it_said(tmp_path):
    with pytest.raises(SideFailedError, match=r"(?s)ours of the step demo.*code 1.*ValueError: too little"):
        side(tmp_path, "raise ValueError('too little')").measure()


def test_a_side_without_a_result_has_failed(tmp_path):
    with pytest.raises(SideFailedError, match=r"left no result\.json"):
        side(tmp_path, "pass").measure()


def test_a_side_ends_with_the_process_that_watches_it(tmp_path):
    late = f"import time; time.sleep(1.5); open({str(tmp_path / 'late')!r}, 'w')"
    code = (
        "import signal, sys; from benchmarks.__main__ import _end; from benchmarks.measuring import watched\n"
        "signal.signal(signal.SIGTERM, _end); print('ready', flush=True)\n"
        f"watched([sys.executable, '-c', {late!r}], sys.stderr)"
    )
    root = Path(__file__).parents[2]
    watching = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    with watching:
        assert watching.stdout.readline() == "ready\n"
        time.sleep(0.2)
        watching.terminate()
        assert watching.wait() == 1
    time.sleep(2)
    assert not (tmp_path / "late").exists()


def test_nothing_that_a_side_started_outlives_it(tmp_path):
    left = "import sys, time; time.sleep(1); open(sys.argv[1], 'w')"
    code = (
        "import subprocess, sys; from pathlib import Path\n"
        f"subprocess.Popen([sys.executable, '-c', {left!r}, {str(tmp_path / 'late')!r}])\n"
        f"Path(sys.argv[2], 'result.json').write_text({json.dumps(json.dumps({'seconds': 1}))})\n"
    )
    side(tmp_path, code).measure()
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()
