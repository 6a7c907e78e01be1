"""What is shipped: the wheel and the source distribution, built from the tree without a network."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import PurePosixPath

import pytest

FOLDERS = {
    "autospine": "autospine",
    "planners": "autospine/planners",
    "trainers": "autospine/trainers",
    "dataset_conversion": "autospine/dataset_conversion",
}


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def distributions(root, tmp_path_factory):
    """Folder with a source distribution and the wheel made from it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in FOLDERS:
        shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tree)
    built = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", built, tree]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return built


@pytest.fixture(scope="module")
def wheel(distributions):
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as archive:
        return {PurePosixPath(name): archive.read(name) for name in archive.namelist()}


def sources(root):
    """Every Python file of the package: where it stands in the checkout, by where it is installed."""
    found = {}
    for folder, installed in FOLDERS.items():
        for path in (root / folder).rglob("*.py"):
            found[PurePosixPath(installed) / path.relative_to(root / folder).as_posix()] = path
    return found


def test_the_listed_packages_are_those_on_disk(root, project):
    on_disk = {str(name.parent).replace("/", ".") for name in sources(root) if name.name == "__init__.py"}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(on_disk)


def test_every_folder_with_code_is_a_package(root):
    installed = sources(root)
    assert {name.parent for name in installed} == {n.parent for n in installed if n.name == "__init__.py"}


def test_the_wheel_holds_the_package_and_nothing_else(root, wheel):
    shipped = {name for name in wheel if not name.parts[0].endswith(".dist-info")}
    assert shipped == {*sources(root), PurePosixPath("autospine/py.typed")}


def test_the_wheel_holds_the_sources_unchanged(root, wheel):
    assert all(wheel[name] == path.read_bytes() for name, path in sources(root).items())


def test_the_wheel_carries_licence_and_metadata(root, project, wheel):
    texts = {name.name: text for name, text in wheel.items() if name.parts[0].endswith(".dist-info")}
    assert texts["LICENSE"] == (root / "LICENSE").read_bytes()
    metadata = texts["METADATA"].decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert f"Version: {project['project']['version']}" in metadata


def test_the_source_distribution_holds_the_folders_as_they_stand(root, distributions):
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {path.relative_to(root).as_posix() for path in sources(root).values()}
    assert wanted | {"LICENSE", "README.md", "pyproject.toml", "autospine/py.typed"} <= names


def test_the_version_stands_everywhere_alike(project):
    from autospine import __version__

    assert __version__ == project["project"]["version"]
