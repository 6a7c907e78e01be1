"""The installed commands, run as a user runs them."""

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from cyclopts import App

from autospine.cli import scripts
from autospine.cli.main import COMMANDS, make_app

HEAVY = ("torch", "SimpleITK", "scipy", "matplotlib", "batchgenerators", "blosc2", "skimage")


def python(code, cwd):
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def declared(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def test_every_command_is_a_script_too(root):
    targets = {f"autospine_{name}": f"autospine.cli.scripts:{name}" for name in map(underscored, COMMANDS)}
    assert declared(root) == {"autospine": "autospine.cli.main:main", **targets}


def test_every_declared_script_is_installed(root):
    folder = Path(sysconfig.get_path("scripts"))
    assert [name for name in declared(root) if not (folder / name).is_file()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_script_calls_its_command(command):
    called = getattr(scripts, underscored(command))
    assert called.keywords == {"command": command}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_s_module_holds_the_command(command):
    assert isinstance(make_app()[command], App)
    assert make_app()[command].default_command is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_explains_itself_and_its_options(command, capsys):
    with pytest.raises(SystemExit) as left:
        scripts.main([command, "--help"])
    assert left.value.code == 0
    assert command in capsys.readouterr().out


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\n"
        "from autospine.cli.main import COMMANDS, run\n"
        "assert run(['--help']) == 0\n"
        "assert all(run([command, '--help']) == 0 for command in COMMANDS)\n"
        f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules))\n"
    )
    outcome = python(code, tmp_path)
    assert outcome.stderr == "\n"
    assert "plan-and-train" in outcome.stdout


def test_an_unknown_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as left:
        scripts.main(["plan-and-trian"])
    assert left.value.code == 2
    assert "plan-and-train" in "".join(capsys.readouterr())


@pytest.mark.parametrize("folder", ["planners", "trainers", "dataset_conversion"])
def test_a_root_folder_has_one_name_only(folder, root):
    outcome = python(f"import {folder}", root)
    assert outcome.returncode == 1
    assert f"Import autospine.{folder} instead of {folder}." in outcome.stderr


def test_the_library_works_from_another_folder(tmp_path):
    (tmp_path / "trainers.py").write_text("raise RuntimeError('a user's own file')")
    assert python("import autospine.planners, autospine.registry", tmp_path).returncode == 0


def underscored(command):
    return command.replace("-", "_")
