"""Values of the model -> what `--json` prints, and what others are given who know only JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cfaudit_export.core.model import Stream, Window, iso

_FORMS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (
        Stream,
        lambda one: {
            "id": one.id,
            "account_id": one.account_id,
            "source": one.source,
            "filters": dict(one.filters),
            "slice": one.slice,
        },
    ),
    (Window, lambda one: {"since": iso(one.since), "before": iso(one.before)}),
    (datetime, iso),
    (timedelta, timedelta.total_seconds),
    (Path, str),
    (Mapping, dict),
    (frozenset, sorted),
)


def as_json(value: Any) -> str:
    """Return a value as JSON: times as ISO 8601, lengths in seconds, a stream with its id.

    Indented, and ASCII only, so that nothing in it can act on a terminal.
    """
    return json.dumps(value, indent=2, default=_plain)


def as_plain(value: Any) -> Any:
    """Return a value as texts, numbers, lists and dictionaries; the same that `as_json` writes."""
    return json.loads(as_json(value))


def _plain(value: Any) -> Any:
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
