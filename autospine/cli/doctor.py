"""``autospine doctor``: is this machine fit, and if not, what would make it so."""

from __future__ import annotations


def doctor(*, json: bool = False) -> int:
    """Check Python, the libraries, the device, memory and disk; say how to mend what is wrong.

    Args:
        json: Print the findings as JSON.
    """
    from autospine import diagnosis
    from autospine.cli.console import say, say_json

    findings = diagnosis.examine()
    if json:
        say_json(findings)
    else:
        say("\n".join(str(finding) for finding in findings))
    return 1 if any(finding.verdict == "problem" for finding in findings) else 0
