"""Rules of the house that no linter knows."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("autospine", "planners", "trainers", "dataset_conversion")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TEXTS = sorted(
    path
    for folder in (*FOLDERS, "tests", "benchmarks", "documentation", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md", ".toml", ".json", "") and path.is_file()
) + [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".coverage")]

LONGEST_FILE = 500
LONGEST_FUNCTION = 80
#: Modules and calls that run what they read, and the argument that lets numpy do so.
UNSAFE = {
    "pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "torch.load",
    "torch.save",
    "eval",
    "exec",
    "allow_pickle",
}

#: A home folder, or the host of a package registry (written so that this file holds none of them).
PRIVATE = re.compile(
    r"/(?:home|Users|root)/\w|py(?:pi)\.org|python(?:hosted)\.org|download\.py(?:torch)\.org"
)


def normalised(name):
    """A distribution's name without its version, as package indices compare it."""
    return re.split(r"[<>=!~ ]", name)[0].lower().replace("_", "-")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Names of the modules a file imports absolutely."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def functions(path):
    return [n for n in ast.walk(tree(path)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def called(path):
    """Names of what a file calls, ``"torch.load"`` or ``"eval"``."""
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


def offenders(broken, paths=SOURCES):
    """Names of the files for which ``broken`` finds something, with what it finds."""
    return {name_of(path): found for path in paths if (found := broken(path))}


def test_files_are_short():
    assert offenders(lambda path: len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE) == {}


def test_functions_are_short():
    def long(path):
        return [f.name for f in functions(path) if (f.end_lineno or 0) - f.lineno >= LONGEST_FUNCTION]

    assert offenders(long) == {}


def test_every_module_says_what_it_is():
    assert offenders(lambda path: tree(path).body and not ast.get_docstring(tree(path))) == {}


def test_nothing_is_unpickled_or_evaluated():
    def unsafe(path):
        roots = {name.partition(".")[0] for name in imports(path)}
        keywords = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.keyword)}
        return (roots | called(path) | keywords) & UNSAFE

    assert offenders(unsafe) == {}


def test_no_file_names_a_home_folder_or_a_registry():
    assert offenders(lambda path: PRIVATE.findall(path.read_text(encoding="utf-8")), TEXTS) == {}


def test_the_vocabulary_needs_numpy_alone():
    def foreign(path):
        return (
            {name.partition(".")[0] for name in imports(path)}
            - sys.stdlib_module_names
            - {"numpy", "autospine"}
        )

    assert offenders(foreign, sorted((ROOT / "autospine" / "core").glob("*.py"))) == {}


def test_plug_in_folders_are_named_by_the_registry_alone():
    # The import linter sees them under their folders' names; under their installed ones it is blind.
    def named(path):
        return re.findall(r"autospine\.(?:planners|trainers|dataset_conversion)\.\w+", code_of(path))

    assert set(offenders(named)) == {"autospine/registry.py"}


def code_of(path):
    """A file's code without docstrings and comments."""
    parsed = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(parsed):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(parsed)


def test_every_library_that_is_imported_is_declared():
    declared = {normalised(line) for line in project()["dependencies"]}
    roots = {name.partition(".")[0] for path in SOURCES for name in imports(path)}
    providers = packages_distributions()
    outside = sorted(roots - sys.stdlib_module_names - {"autospine"})
    assert [n for n in outside if declared.isdisjoint(map(normalised, providers.get(n, [])))] == []


def test_the_lock_holds_versions_only_and_covers_what_is_declared():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    wanted = project()["dependencies"] + project()["optional-dependencies"]["dev"]
    assert {normalised(line) for line in wanted} <= {normalised(line) for line in pins}
