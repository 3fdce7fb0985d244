"""What an event changed, compared with the event before on the same resource, in few words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cfaudit_export.analysis.answers.before_after import BodyChange, DiffLine
from cfaudit_export.core.model import EPOCH, Window
from cfaudit_export.serve.answers.wording import told

_MARGIN = timedelta(hours=1)
_SHOWN = 5


def changes_span(period: Window, back: timedelta) -> Window:
    """Return the time in which the event before one of a period is looked for."""
    return Window(max(period.since - back, EPOCH), period.before + _MARGIN)


def change_lines(change: BodyChange | None) -> list[str]:
    """Return the first differences, a text each."""
    return [_line(one) for one in change.lines[:_SHOWN]] if change else []


def change_facts(change: BodyChange, zone: ZoneInfo) -> dict[str, Any]:
    """Return all that is known of a change."""
    body = {
        "compared_with": change.before_event_id,
        "of": change.before_time,
        "column": change.column,
        "lines": [_line(one) for one in change.lines],
        "more_lines": change.left_out or None,
        "note": "against the last change in the export, of 90 days before at most",
    }
    facts: dict[str, Any] = told(body, zone)
    return facts


def _line(one: DiffLine) -> str:
    values = {"+": one.new, "-": one.old, "~": f"{one.old} -> {one.new}"}
    return f"{one.sign} {one.path}: {values[one.sign]}"
