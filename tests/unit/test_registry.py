from importlib.metadata import EntryPoint, EntryPoints
from typing import get_args

import pytest

from autospine import registry
from autospine.core.errors import UnknownPluginError

BUILT_IN = [(kind, name) for kind, table in registry.BUILT_IN.items() for name in table]


@pytest.fixture
def installed(monkeypatch):
    """A planner that another distribution has installed under the name ``theirs``."""
    point = EntryPoint("theirs", "math:sqrt", "autospine.planners")

    def entry_points(group):
        return EntryPoints([point]).select(group=group)

    monkeypatch.setattr(registry, "entry_points", entry_points)


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_every_built_in_can_be_found(kind, name):
    assert callable(registry.find(kind, name))


@pytest.mark.parametrize("kind", get_args(registry.Kind))
def test_every_kind_has_a_built_in_and_lists_it(kind):
    assert set(registry.BUILT_IN[kind]) <= set(registry.names(kind))
    assert registry.names(kind) == sorted(registry.names(kind))


@pytest.mark.usefixtures("installed")
def test_installed_plug_ins_are_listed_and_found():
    assert "theirs" in registry.names("planners")
    assert "theirs" not in registry.names("trainers")
    assert registry.find("planners", "theirs")(9.0) == 3.0


def test_a_function_of_a_file_is_found(tmp_path):
    (tmp_path / "mine.py").write_text("def plan(fingerprint, budget):\n    return (fingerprint, budget)\n")
    assert registry.find("planners", f"{tmp_path / 'mine.py'}:plan")(1, 2) == (1, 2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnknownPluginError, match="no such plug-in file") as caught:
        registry.find("planners", f"{tmp_path / 'absent.py'}:plan")
    assert caught.value.where == tmp_path / "absent.py"


@pytest.mark.parametrize("function", ["absent", "number", ""])
def test_what_is_no_function_of_the_file_is_refused(tmp_path, function):
    (tmp_path / "mine.py").write_text("number = 7\n")
    with pytest.raises(UnknownPluginError, match="names no function"):
        registry.find("planners", f"{tmp_path / 'mine.py'}:{function}")


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("planners", "nnunt", "nnunet"),
        ("networks", "residual_net", "residual_unet"),
        ("datasets", "vers", "verse"),
    ],
)
def test_a_slip_of_the_pen_is_answered_with_the_nearest_names(kind, name, meant):
    with pytest.raises(UnknownPluginError, match=f"There is no {kind[:-1]} called '{name}'") as caught:
        registry.find(kind, name)
    assert meant in caught.value.remedy


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(UnknownPluginError) as caught:
        registry.find("datasets", "xyzzy-qqq")
    assert all(name in caught.value.remedy for name in registry.names("datasets"))


def test_a_plugin_file_may_hold_dataclasses(tmp_path):
    lines = [
        "from __future__ import annotations",
        "from dataclasses import dataclass",
        "@dataclass",
        "class Settings:",
        "    width: int = 3",
        "def build():",
        "    return Settings()",
    ]
    (tmp_path / "classes.py").write_text("\n".join(lines))
    assert registry.find("networks", f"{tmp_path / 'classes.py'}:build")().width == 3
