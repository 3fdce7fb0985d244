# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value
"""An event and the event before it on the same resource -> what differs, as far as their bodies tell.

It is against the last change that is known: one that was never exported is not in it. A request may name only what it
changes, so what it does not name is not taken for removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from cfaudit_export.analysis.files.database import EVENTS, EventDatabase

LINES = 20
"""How many differences are listed at most; the rest is counted."""

_COLUMNS = ("resource_value", "resource_request")
_LEAVES = 5_000
_DEEPEST = 50
_LONGEST = 120


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One difference.

    Attributes:
        sign: `+` is new, `-` is gone, `~` has another value.
        path: of the value, as in `settings.ttl` or `tags[0]`; empty for the whole.
        old: the value before, as JSON, cut where it is long; empty for what is new.
        new: the value after, likewise.
    """

    sign: Literal["+", "-", "~"]
    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class BodyChange:
    """What differs between an event and the one before it on the same resource.

    Attributes:
        before_event_id: the event before.
        before_time: its time.
        column: what was compared: `resource_value`, or `resource_request` where not both have a value.
        lines: the differences by path; none where both are the same.
        left_out: how many more there are.
    """

    before_event_id: str
    before_time: datetime
    column: str
    lines: tuple[DiffLine, ...]
    left_out: int


def changes_before(data: EventDatabase, event_ids: Sequence[str]) -> dict[str, BodyChange]:
    """Return what each event changed, by its id; an event that there is nothing to compare with is left out.

    Raises:
        CfauditError: the data cannot be read.
    """
    if not event_ids:
        return {}
    pairs = data.ask(
        f"""WITH asked AS (SELECT DISTINCT account_id, resource_id, resource_product, resource_type FROM {EVENTS}
            WHERE event_id IN (SELECT unnest($ids::VARCHAR[])) AND nullif(resource_id, '') IS NOT NULL),
        near AS (SELECT event_id, event_time, lag(event_id) OVER same AS before_id, lag(event_time) OVER same AS at_
            FROM {EVENTS} AS e JOIN asked ON e.account_id = asked.account_id AND e.resource_id = asked.resource_id
                AND e.resource_product IS NOT DISTINCT FROM asked.resource_product
                AND e.resource_type IS NOT DISTINCT FROM asked.resource_type
            WHERE coalesce(action_type, '') <> 'view' AND coalesce(action_result, '') <> 'failure'
            WINDOW same AS (PARTITION BY e.account_id, e.resource_id, e.resource_product, e.resource_type
                ORDER BY event_time, event_id))
        SELECT event_id, event_time, before_id, at_ AS before_time FROM near
        WHERE before_id IS NOT NULL AND event_id IN (SELECT unnest($ids::VARCHAR[]))""",
        {"ids": list(event_ids)},
    )
    bodies = _bodies(data, pairs)
    found = {}
    for pair in pairs:
        old, new = (bodies.get(pair[name], {}) for name in ("before_id", "event_id"))
        if (made := _difference(pair, old, new)) is not None:
            found[pair["event_id"]] = made
    return found


def _bodies(data: EventDatabase, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    if not pairs:
        return {}
    ids = sorted({one[name] for one in pairs for name in ("event_id", "before_id")})
    rows = data.ask(
        f"""SELECT event_id, {", ".join(_COLUMNS)} FROM {EVENTS} WHERE event_time >= $first AND event_time <= $last
        AND event_id IN (SELECT unnest($ids::VARCHAR[]))""",
        {
            "first": min(one["before_time"] for one in pairs),
            "last": max(one["event_time"] for one in pairs),
            "ids": ids,
        },
    )
    return {row["event_id"]: row for row in rows}


def _difference(pair: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> BodyChange | None:
    for column in _COLUMNS:
        before, after = _leaves(old.get(column)), _leaves(new.get(column))
        if before is not None and after is not None:
            lines = list(_lines(before, after, is_whole=column == _COLUMNS[0]))
            cut = tuple(lines[:LINES])
            return BodyChange(pair["before_id"], pair["before_time"], column, cut, len(lines) - len(cut))
    return None


def _lines(before: Mapping[str, str], after: Mapping[str, str], *, is_whole: bool) -> Iterator[DiffLine]:
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            yield DiffLine("+", path, "", after[path])
        elif path not in after:
            if is_whole:
                yield DiffLine("-", path, before[path], "")
        elif before[path] != after[path]:
            yield DiffLine("~", path, before[path], after[path])


def _leaves(text: str | None) -> dict[str, str] | None:
    """Return the values of a JSON text by their paths; None where it is none, or larger than people read."""
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = list(islice(_walk("", value, 0), _LEAVES + 1))
    return None if len(found) > _LEAVES else dict(found)


def _walk(path: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if depth < _DEEPEST and isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _walk(f"{path}.{name}" if path else str(name), inner, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list) and value:
        for at, inner in enumerate(value):
            yield from _walk(f"{path}[{at}]", inner, depth + 1)
    else:
        yield path, _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    left = len(text) - _LONGEST
    return text if left <= 0 else f"{text[:_LONGEST]}\N{HORIZONTAL ELLIPSIS}(+{left:,})"
