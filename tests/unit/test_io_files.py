import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from autospine.core.errors import StorageError
from autospine.core.geometry import Grid
from autospine.io.documents import save
from autospine.io.files import (
    atomic_path,
    make_folder,
    remove_partial,
    storage_errors,
    write_failure,
    write_text,
)
from autospine.io.images import write_image
from autospine.io.store import save_array

NOISE = np.random.default_rng(0).integers(-30000, 30000, (40, 40, 40)).astype(np.int16)
NAMES = ["a.nii.gz", "a.nii", "a.mha", "a.mhd", "a.nrrd", "a.b2nd", "a.json"]


def write(path):
    """Write about 128 KB."""
    if path.suffix == ".b2nd":
        save_array(path, NOISE)
    elif path.suffix == ".json":
        save(path, NOISE.ravel()[:30000].tolist())
    else:
        write_image(path, NOISE, Grid(NOISE.shape, (1.0, 1.0, 1.0)))


@contextmanager
def files_no_larger_than(size):
    """Let the operating system refuse any byte beyond ``size``, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("room", [0, 20_000, 90_000])
def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path, name, room):
    path = tmp_path / name
    write(path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with files_no_larger_than(room), pytest.raises(StorageError) as caught:
        write(path)
    assert caught.value.where == path
    assert caught.value.remedy
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", NAMES)
def test_a_file_where_a_folder_is_needed(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory"):
        write(tmp_path / "file" / "folder" / name)
    with pytest.raises(StorageError, match="Not a directory"):
        write(tmp_path / "file" / name)


def test_folders_that_may_not_be_written_to(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(StorageError, match="choose another folder"):
        write(folder / "a.nii.gz")


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO]
)
def test_refusals_are_explained(tmp_path, code):
    with pytest.raises(StorageError, match=os.strerror(code)) as caught, storage_errors(tmp_path):
        raise OSError(code, "refused")
    assert caught.value.remedy


def test_other_errors_are_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        (tmp_path / "nowhere").read_text()


def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_nothing_is_seen_before_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.nii.gz"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.name.endswith(".nii.gz")
    assert path.read_text() == "half"


def test_a_disk_that_takes_a_little_is_still_reported(tmp_path):
    error = write_failure(tmp_path / "a.nii", "42 of 43 bytes")
    assert isinstance(error, StorageError)
    assert "42 of 43" in str(error)
    assert not list(tmp_path.iterdir())


def test_folders_may_exist(tmp_path):
    assert make_folder(make_folder(tmp_path / "a" / "b")) == tmp_path / "a" / "b"


def test_leftovers_are_removed_everywhere(tmp_path):
    (tmp_path / "deep" / ".partial-99999999-folder").mkdir(parents=True)
    (tmp_path / "deep" / ".partial-99999999-folder" / "x").write_text("")
    (tmp_path / "deep" / ".partial-99999998-a.b2nd").write_text("")
    (tmp_path / "deep" / "a.b2nd").write_text("")
    remove_partial(tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["deep", "a.b2nd"]


@pytest.mark.skipif(os.name != "posix", reason="only there a process can be asked whether it lives")
def test_what_a_living_process_is_writing_stays(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = tmp_path / f".partial-{other.pid}-a.b2nd"
        theirs.write_text("")
        remove_partial(tmp_path)
        assert theirs.exists()
        other.communicate(b"\n")
    remove_partial(tmp_path)
    assert not theirs.exists()
