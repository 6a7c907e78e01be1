"""What all tests share: few threads, no network, reproducible examples, sample scans where there are any."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before any test imports torch or numpy: two workers on two cores must not start four threads.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).parents[1]
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

# The same examples every time: a gate that passes today passes tomorrow.
settings.register_profile(
    "autospine", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("autospine")


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection beyond this machine fails the test that tries it."""
    connect = socket.socket.connect

    def local_only(self, address):
        if isinstance(address, tuple) and address[0] not in _LOCAL_HOSTS:
            raise OSError(f"Tests have no network; something tried to reach {address[0]}.")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def sample_data():
    """Folder of real sample scans, which are no part of the project."""
    folder = Path(os.environ.get("AUTOSPINE_SAMPLE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no sample scans: set AUTOSPINE_SAMPLE_DATA to their folder")
    return folder
