"""``--schedule.epochs 200``: any field of the schedule, set on the command line.

The options are derived from the dataclass itself, so a new field is an option without further ado.
"""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from typing import Any, Optional, get_type_hints

from autospine.core.plan import Schedule


def _all_optional(kind: type) -> type:
    """A dataclass with the same fields, each None unless it was given."""
    hints = get_type_hints(kind)
    specification: list[tuple[str, Any, Any]] = []
    for item in fields(kind):
        hint = hints[item.name]
        if is_dataclass(hint) and isinstance(hint, type):
            nested = _all_optional(hint)
            specification.append((item.name, nested, field(default=nested())))
        else:
            specification.append((item.name, Optional[hint], field(default=None)))  # noqa: UP045
    made = make_dataclass(f"{kind.__name__}Overrides", specification, frozen=True)
    made.__module__ = __name__  # a class of the module "types" would not be taken apart into options
    return made


ScheduleOverrides = _all_optional(Schedule)


def override(value: Any, overrides: Any) -> Any:
    """A copy of a dataclass with every field that was given replaced."""
    changes = {}
    for item in fields(overrides):
        given = getattr(overrides, item.name)
        if is_dataclass(given):
            changes[item.name] = override(getattr(value, item.name), given)
        elif given is not None:
            changes[item.name] = given
    return replace(value, **changes)
