"""The documentation is true: its Python runs, its commands and options exist, its links lead somewhere."""

import os
import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from autospine.cli.main import COMMANDS, make_app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "documentation").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
OPERATORS = ("|", "&&", "||", ";", ">", ">>", "2>&1", "&")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path, *languages):
    """The fenced blocks of a document that are in one of the languages."""
    return [
        text for language, text in BLOCK.findall(path.read_text(encoding="utf-8")) if language in languages
    ]


def having(*languages):
    return [path for path in DOCUMENTS if blocks(path, *languages)]


def command_lines(path):
    """What a reader is told to type, word by word, without pipes and redirections."""
    typed = [line for text in blocks(path, "bash", "sh") for line in joined(text)]
    shown = [line for text in blocks(path, "console") for line in joined(text) if line.startswith("$ ")]
    for line in [*typed, *(line.removeprefix("$ ") for line in shown)]:
        words = list(takewhile(lambda word: word not in OPERATORS, shlex.split(line, comments=True)))
        if words:
            yield words


def joined(text):
    return text.replace("\\\n", " ").splitlines()


def make_targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("path", having("python"), ids=name_of)
def test_python_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for text in blocks(path, "python"):
        exec(compile(text, str(path), "exec"), names)


@pytest.mark.parametrize("path", having("console", "bash", "sh"), ids=name_of)
def test_commands_and_options_exist(path):
    for program, *words in command_lines(path):
        if program == "make":
            assert set(words) <= make_targets(), words
        elif program.startswith("autospine"):
            command = program.removeprefix("autospine").removeprefix("_").replace("_", "-")
            understand([command, *words] if command else words)


def understand(tokens):
    """Parse a command line with the real application, without running it."""
    if tokens and tokens[0] in COMMANDS and "--help" not in tokens:
        make_app().parse_args(tokens, exit_on_error=False)
    else:
        assert tokens in (["--help"], ["--version"]) or tokens[0] in COMMANDS, tokens


@pytest.mark.parametrize(
    "line", ["plan-and-train data --outptu run", "evaluate --tolerance wide", "no-such-command"]
)
def test_a_wrong_command_line_would_be_noticed(line):
    with pytest.raises((CycloptsError, AssertionError)):
        understand(shlex.split(line))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    assert [link for link in links(path) if not leads_somewhere(path, link)] == []


def links(path):
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    return [link for link in LINK.findall(text) if not re.match(r"\w+:", link)]


def leads_somewhere(path, link):
    file, _, anchor = link.partition("#")
    target = Path(os.path.normpath(path.parent / file)) if file else path
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target)


def anchors(path):
    """What headings are called in links: lower case, without punctuation, hyphens for blanks."""
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in HEADING.findall(text)
    }
