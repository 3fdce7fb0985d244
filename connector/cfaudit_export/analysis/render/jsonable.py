"""Values of an answer -> the tree that `--json` prints: fields by name, and what is worked out from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.facts import Change, Outcome
from cfaudit_export.analysis.answers.vocabulary import Actor, UsedCredential
from cfaudit_export.core.model import Stream, Window, iso

_WORKED_OUT: Mapping[type, tuple[str, ...]] = {
    Change: ("percent",),
    Outcome: ("ratio",),
    Coverage: ("is_complete", "missing"),
    Actor: ("shown",),
    UsedCredential: ("shown",),
    Stream: ("id",),
}


def tree(value: Any) -> Any:
    """Return a value as JSON knows it; times are UTC."""
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    if dataclasses.is_dataclass(value):
        names = (*(field.name for field in dataclasses.fields(value)), *_WORKED_OUT.get(type(value), ()))
        return {name: tree(getattr(value, name)) for name in names}
    return value


_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Window, lambda one: {"since": iso(one.since), "before": iso(one.before)}),
    (datetime, iso),
    (date, lambda one: one.isoformat()),
    (Mapping, lambda one: {str(name): tree(value) for name, value in one.items()}),
    (list | tuple, lambda one: [tree(value) for value in one]),
)
