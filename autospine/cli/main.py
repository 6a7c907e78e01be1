"""The command line: names only; a command's module is imported when it is called.

Exit codes: 0 ok, 1 failure, 2 usage, 3 data rejected, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError

from autospine import __version__
from autospine.core.errors import AutospineError

COMMANDS: Final = {
    "convert-verse": "autospine.cli.convert_verse:convert_verse",
    "convert-xvertseg": "autospine.cli.convert_xvertseg:convert_xvertseg",
    "fingerprint": "autospine.cli.fingerprint:fingerprint",
    "plan": "autospine.cli.plan:plan",
    "preprocess": "autospine.cli.preprocess:preprocess",
    "train": "autospine.cli.train:train",
    "find-best": "autospine.cli.find_best:find_best",
    "plan-and-train": "autospine.cli.plan_and_train:plan_and_train",
    "predict": "autospine.cli.predict:predict",
    "ensemble": "autospine.cli.ensemble:ensemble",
    "evaluate": "autospine.cli.evaluate:evaluate",
    "export-centroids": "autospine.cli.export_centroids:export_centroids",
    "submit": "autospine.cli.submit:submit",
    "phantom": "autospine.cli.phantom:phantom",
    "demo": "autospine.cli.demo:demo",
    "doctor": "autospine.cli.doctor:doctor",
}

_INTERRUPTED: Final = 130


def make_app() -> App:
    """The application with all commands, none of them imported yet."""
    app = App(
        name="autospine",
        help="Self-configuring segmentation of the vertebrae in spine CT.",
        version=__version__,
        help_format="markdown",
    )
    for name, target in COMMANDS.items():
        app.command(target, name=name)
    return app


def run(tokens: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    if tokens and "_" in tokens[0] and not tokens[0].startswith("-"):
        tokens = [tokens[0].replace("_", "-"), *tokens[1:]]
    try:
        result = make_app()(tokens, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        return 2  # cyclopts has already said what is wrong
    except AutospineError as error:
        sys.stderr.write(f"autospine: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("autospine: stopped. Finished work is kept: run the same command again to go on.\n")
        return _INTERRUPTED
    return result if isinstance(result, int) else 0


def main(argv: Sequence[str] | None = None, command: str | None = None) -> None:
    """Entry point of ``autospine`` and, with a ``command``, of ``autospine_COMMAND``; exits the process."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    sys.exit(run([command, *tokens] if command else tokens))
