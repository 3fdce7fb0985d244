"""Values -> what an answer says: texts of strangers escaped and cut, times in the zone that was asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cfaudit_export.analysis.answers.facts import Change
from cfaudit_export.analysis.answers.vocabulary import Actor, UsedCredential
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import Window

LONGEST = 500
_SAFE_INTEGER = 1 << 53


def text(value: str, longest: int = LONGEST) -> str:
    """Return a text of a stranger: control and reordering characters escaped, the rest cut, with how much that was."""
    safe = escaped(value)
    return safe if len(safe) <= longest else f"{safe[:longest]}…(+{len(safe) - longest:,})"


def moment(at: datetime, zone: ZoneInfo) -> str:
    """Return a time with its offset, to the millisecond."""
    return at.astimezone(zone).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told(value: Any, zone: ZoneInfo, longest: int = LONGEST) -> Any:
    """Return a value of an answer as JSON has it; what is None is left out of objects."""
    if isinstance(value, str):
        return text(value, longest)
    if isinstance(value, Mapping):
        return {text(str(name)): told(one, zone, longest) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [told(one, zone, longest) for one in value]
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return told(form(value, zone), zone, longest) if kind not in _DONE else form(value, zone)
    if dataclasses.is_dataclass(value):
        return told({one.name: getattr(value, one.name) for one in dataclasses.fields(value)}, zone, longest)
    return text(str(value), longest)


_FORMS: tuple[tuple[Any, Callable[[Any, ZoneInfo], Any]], ...] = (
    (bool | None, lambda one, _: one),
    (int, lambda one, _: one if abs(one) < _SAFE_INTEGER else str(one)),
    (float, lambda one, _: one if math.isfinite(one) else str(one)),
    (datetime, lambda one, zone: moment(one, zone) if one.tzinfo else one.isoformat()),
    (date, lambda one, _: one.isoformat()),
    (timedelta, lambda one, _: one.total_seconds()),
    (Actor | UsedCredential, lambda one, _: one.shown),
    (Change, lambda one, _: {"count": one.count, "before": one.before}),
    (Window, lambda one, _: {"since": one.since, "before": one.before}),
)
_DONE = (bool | None, int, float, datetime, date, timedelta)
