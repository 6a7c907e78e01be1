"""``python -m benchmarks NAME``: measure steps side by side with a peer and write the table of all steps."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import format_exc
from typing import Final

from benchmarks.measuring import SideFailedError
from benchmarks.peer import SetUpError
from benchmarks.reports import RESULTS
from benchmarks.side_by_side import Bench
from benchmarks.step import NAMES, find
from benchmarks.table import Table

_ALL: Final = "all"


def main(tokens: Sequence[str] | None = None) -> int:
    """Measure the steps that were named, or list them.

    Returns:
        0, or 1 when a step has failed.
    """
    options = _arguments(tokens)
    if not options.names:
        for name in NAMES:
            print(f"{name:16}{find(name).work}")
        return 0
    names = NAMES if _ALL in options.names else tuple(dict.fromkeys(options.names))
    peer = options.peer_python.absolute() if options.peer_python else None
    bench = Bench(options.work.resolve(), options.repeats, peer)
    failed = [name for name in names if not _measured(name, bench, options.results)]
    return 1 if failed else 0


def _measured(name: str, bench: Bench, results: Path) -> bool:
    """Measure a step and put it into the table; False when it has failed."""
    try:
        row = bench.measure(find(name))
    except (SideFailedError, SetUpError) as error:
        print(error, file=sys.stderr, flush=True)
        return False
    except Exception:
        # Whatever is wrong with the inputs or the comparison of one step: the others take an hour.
        print(f"The step {name} has failed:\n{format_exc()}", file=sys.stderr, flush=True)
        return False
    # Read only now: other rows may have been measured meanwhile.
    Table.load(results / "speed.json").with_row(row).save(results)
    print(f"{name}: the peer takes {row.ratio:.1f} times as long and {row.memory_ratio:.1f} times the memory")
    return True


def _arguments(tokens: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=_name, help="a step, several, or all; none: list them"
    )
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="inputs and outputs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table stands")
    parser.add_argument("--repeats", type=_positive, default=3, help="runs of each side")
    parser.add_argument("--peer-python", type=Path, help="a Python with nnunetv2; by default one is set up")
    return parser.parse_args(tokens)


def _name(text: str) -> str:
    if text not in (*NAMES, _ALL):
        raise argparse.ArgumentTypeError(f"no step {text!r}; there are {', '.join((*NAMES, _ALL))}")
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _end(*_: object) -> None:
    """End as after an error, so that the side that is running ends too."""
    sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
