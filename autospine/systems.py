"""Published systems, asked for by name beside a planner's own configurations.

``caeb7_unet`` or, with options, ``caeb7_unet:variant=b3,dimensions=3``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autospine.core.errors import UnknownPluginError, UsageError
from autospine.core.fingerprint import Fingerprint
from autospine.core.plan import Plan
from autospine.registry import find, names


@dataclass(frozen=True)
class SystemRequest:
    """A system and what was chosen about it.

    Args:
        system: Its name in the registry, or ``file.py:NAME``.
        options: Text by name, as pairs.
    """

    system: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> SystemRequest:
        """Read ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``; the name may be ``file.py:NAME``.

        Raises:
            UsageError: It reads otherwise.
        """
        file, script, rest = text.rpartition(".py:")
        name, _, rest = rest.partition(":")
        system = f"{file}{script}{name}"
        pairs = [part.partition("=") for part in filter(None, rest.split(","))]
        if any(not (name and equals and value) for name, equals, value in pairs):
            raise UsageError(f"{text!r} is no system with options.", remedy="Write NAME:OPTION=VALUE,…")
        return cls(system, tuple(sorted((name, value) for name, _, value in pairs)))

    @property
    def configuration_name(self) -> str:
        """What the system's last configuration is called; also a folder's name."""
        words = [self.system, *(f"{name}-{value}" for name, value in self.options)]
        return re.sub(r"[^\w.-]+", "-", "_".join(words)).strip("-.")


def with_systems(plan: Plan, fingerprint: Fingerprint, wanted: Sequence[str]) -> tuple[Plan, tuple[str, ...]]:
    """Add to a plan those of the wanted configurations that are systems.

    Args:
        plan: With the planner's own configurations.
        fingerprint: Of the data set.
        wanted: Names of configurations, and systems with or without options.

    Returns:
        The plan, and the wanted configurations by the names they have in it.

    Raises:
        UnknownPluginError: A name is neither a configuration of the plan nor a system.
        UsageError: A system has no such option.
        DataError: The data set does not suit a system.
    """
    chosen = []
    for text in wanted:
        if text in {c.name for c in plan.configurations}:
            chosen.append(text)
            continue
        request = SystemRequest.parse(text)
        _require_known(request, plan)
        design = find("systems", request.system)
        made = design(request.configuration_name, dict(request.options), fingerprint, plan)
        known = {c.name for c in plan.configurations}
        plan = replace(plan, configurations=(*plan.configurations, *(c for c in made if c.name not in known)))
        chosen.append(request.configuration_name)
    return plan, tuple(chosen)


def _require_known(request: SystemRequest, plan: Plan) -> None:
    known = [*(c.name for c in plan.configurations), *names("systems")]
    if request.system in known or ".py:" in request.system:
        return
    near = difflib.get_close_matches(request.system, known, n=3, cutoff=0.4) or known
    raise UnknownPluginError(
        f"There is no configuration and no system called {request.system!r}.",
        remedy=f"Did you mean {' or '.join(near)}?",
    )
