import pytest

from autospine import host_memory as host_memory_module
from autospine.core.errors import UsageError
from autospine.hardware import choose_device, measure_budget
from autospine.host_memory import host_memory
from autospine.io.parallel import cores
from autospine.training import Sharing


@pytest.mark.parametrize(
    ("cores", "folds", "jobs", "threads"), [(1, 5, 1, 1), (2, 5, 2, 1), (5, 5, 5, 1), (32, 5, 5, 6)]
)
def test_trainings_share_a_cpu_without_oversubscribing_it(cores, folds, jobs, threads):
    assert Sharing.of("cpu", cores, folds) == Sharing(jobs, threads)
    assert jobs * threads <= cores


def test_a_gpu_trains_one_fold_at_a_time():
    assert Sharing.of("cuda:0", 16, 5) == Sharing(1, None)


@pytest.mark.parametrize("name", ["foo", "cuda:99", "cuda:x", "mps"])
def test_devices_that_do_not_exist_are_refused(name):
    with pytest.raises(UsageError, match="no device"):
        choose_device(name)


def test_a_cpu_is_always_there():
    assert choose_device("cpu") == "cpu"
    budget = measure_budget("cpu", None)
    assert (budget.device, budget.cores) == ("cpu", cores())
    assert host_memory() > 10**8


def test_a_containers_limit_counts_whichever_version_tells_it(tmp_path, monkeypatch):
    first, second = tmp_path / "memory.max", tmp_path / "limit_in_bytes"
    monkeypatch.setattr(host_memory_module, "_CGROUP_LIMITS", (first, second))
    whole = host_memory()
    first.write_text("max\n")
    second.write_text("123456789\n")
    assert host_memory() == 123456789 < whole
    second.write_text(f"{2**63 - 4096}\n")
    assert host_memory() == whole
