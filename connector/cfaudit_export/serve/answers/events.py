# ruff: noqa: S608  # the SQL is made of texts of this folder and names of columns; whatever comes from elsewhere is bound
"""`audit_events` and `audit_event`: events as rows, a page at a time, and one of them whole."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cfaudit_export.analysis.answers.before_after import changes_before
from cfaudit_export.analysis.files.database import EVENTS
from cfaudit_export.core.model import EPOCH, MILLISECOND, Window, floor_ms
from cfaudit_export.errors import UsageError
from cfaudit_export.serve.answers.changes import change_facts, changes_span
from cfaudit_export.serve.answers.conditions import COLUMN_NAMES, JSON_COLUMNS, Conditions, column
from cfaudit_export.serve.answers.draft import AnswerDraft
from cfaudit_export.serve.answers.period import AskedPeriod, asked, at_zone, head
from cfaudit_export.serve.answers.wording import told
from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.tools import DEFAULT_EVENTS

_DAY = timedelta(hours=24)
_BACK = timedelta(days=90)
_MICROSECOND = timedelta(microseconds=1)
USUAL_COLUMNS = (
    "event_id",
    "event_time",
    "action_type",
    "action_description",
    "action_result",
    "actor_email",
    "actor_context",
    "actor_ip_address",
    "actor_token_name",
    "resource_product",
    "resource_type",
    "resource_id",
    "zone_name",
    "fidelity",
)
_PLACE = ("event_time", "account_id", "event_id")
_LONGEST_BODY = 6_000
_NEIGHBOURS = 4


def answer_events(archive: Archive, arguments: Mapping[str, Any]) -> AnswerDraft:
    """Answer the tool.

    Raises:
        UsageError: a time, a condition, a column or a cursor is none.
        CfauditError: the data cannot be read.
    """
    order = arguments.get("order", "newest")
    what, at = (
        _continued(archive, arguments, order) if "cursor" in arguments else (asked(archive, arguments, _DAY), None)
    )
    found = Conditions()
    for name, wanted in arguments.get("where", {}).items():
        found.add(column(name, "where"), wanted)
    columns = [column(name, "fields") for name in arguments.get("fields") or _usual(archive)]
    asked_for = " AND ".join([*found.all(), *_frame(found, what)])
    doubt = (
        f"event_time >= $since AND event_time < $before AND {found.unjudged()} AND NOT coalesce(({asked_for}), FALSE)"
    )
    [counts] = archive.data.ask(
        f"SELECT count(*) FILTER ({asked_for} AND {_beyond(found, at, order)}) AS left, "
        f"count(*) FILTER ({asked_for}) AS matching, "
        f"count(*) FILTER ({doubt}) AS unjudged FROM {EVENTS} WHERE event_time >= $since AND event_time < $before",
        found.values,
    )
    limit, direction = arguments.get("limit", DEFAULT_EVENTS), "DESC" if order == "newest" else "ASC"
    chosen = ", ".join(dict.fromkeys([*columns, *_PLACE]))
    rows = archive.data.ask(
        f"SELECT {chosen} FROM {EVENTS} WHERE {asked_for} AND {_beyond(found, at, order)} "
        f"ORDER BY {', '.join(f'{name} {direction}' for name in _PLACE)} LIMIT {limit:d}",
        found.values,
    )
    bodies = _LONGEST_BODY if set(columns) & JSON_COLUMNS else 500
    shown = [told({name: row[name] for name in columns}, what.zone, bodies) for row in rows]
    facts = {"matching": counts["matching"]} | ({"unjudged": _unjudged(counts)} if counts["unjudged"] else {})
    draft = AnswerDraft(head(archive, what), facts, {"events": shown}, {"events": counts["left"]}, len(shown))
    return replace(draft, cursors=tuple(_cursor(row, what, arguments, order) for row in rows))


def _unjudged(counts: Mapping[str, Any]) -> str:
    return f"{counts['unjudged']:,} further events may match: their records lack a column that a condition is about"


def _usual(archive: Archive) -> tuple[str, ...]:
    return USUAL_COLUMNS if len(archive.known_accounts()) == 1 else (*USUAL_COLUMNS, "account_id")


def _frame(found: Conditions, what: AskedPeriod) -> list[str]:
    """Return the conditions of period and account, and bind their values."""
    found.values |= {"since": what.period.since, "before": what.period.before}
    clauses = ["event_time >= $since", "event_time < $before"]
    if what.accounts:
        found.values |= {"account": what.accounts[0]}
        clauses.append("account_id = $account")
    return clauses


def _beyond(found: Conditions, at: tuple[datetime, str, str] | None, order: str) -> str:
    """Return the condition on what lies behind a place, and bind its values."""
    if at is None:
        return "TRUE"
    found.values |= {f"place_{number}": one for number, one in enumerate(at)}
    return f"({', '.join(_PLACE)}) {'<' if order == 'newest' else '>'} ($place_0, $place_1, $place_2)"


# -- cursors: the place behind a row, and the question that it belongs to ----------------------------------------------


def _cursor(row: Mapping[str, Any], what: AskedPeriod, arguments: Mapping[str, Any], order: str) -> str:
    times = [(one - EPOCH) // _MICROSECOND for one in (what.period.since, what.period.before, row["event_time"])]
    body = [*times, row["account_id"], row["event_id"], _digest(arguments, order)]
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode()


def _continued(
    archive: Archive, arguments: Mapping[str, Any], order: str
) -> tuple[AskedPeriod, tuple[datetime, str, str]]:
    """Return the question that a cursor belongs to, and the place where it continues."""
    try:
        since, before, at, account, event, digest = json.loads(base64.urlsafe_b64decode(arguments["cursor"].encode()))
        times = [EPOCH + one * _MICROSECOND for one in (since, before, at)]
        period = Window(floor_ms(times[0]), floor_ms(times[1]))
        place = (times[2], str(account), str(event))
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise UsageError("cursor: not one of this tool; give next_cursor of the answer before") from None
    if digest != _digest(arguments, order):
        raise UsageError("cursor: belongs to another question; repeat its where, order and account, or leave it out")
    return at_zone(archive, arguments.get("time_zone"), period, archive.accounts(arguments.get("account"))), place


def _digest(arguments: Mapping[str, Any], order: str) -> str:
    said = json.dumps([arguments.get("where"), arguments.get("account"), order], sort_keys=True)
    return sha256(said.encode()).hexdigest()[:12]


# -- one event ---------------------------------------------------------------------------------------------------------


def answer_event(archive: Archive, arguments: Mapping[str, Any]) -> AnswerDraft:
    """Answer the tool.

    Raises:
        UsageError: there is no such event.
        CfauditError: the data cannot be read.
    """
    event_id = arguments["event_id"]
    rows = archive.data.ask(f"SELECT * FROM {EVENTS} WHERE event_id = $id LIMIT 2", {"id": event_id})
    if not rows:
        raise UsageError("event_id: no such event in what was exported; audit_coverage says what that is")
    row = rows[0]
    at = floor_ms(row["event_time"].astimezone(UTC))
    what = at_zone(archive, arguments.get("time_zone"), Window(at, at + MILLISECOND), (row["account_id"],))
    whole = told({name: row[name] for name in COLUMN_NAMES}, what.zone, _LONGEST_BODY)
    with archive.apart(changes_span(what.period, _BACK)) as data:
        change = changes_before(data, [event_id]).get(event_id)
    before, after = (_neighbours(archive, row, what, direction) for direction in ("<", ">"))
    facts = {"event": whole} | ({"changed": change_facts(change, what.zone)} if change else {})
    return AnswerDraft(head(archive, what), facts, {"before": before, "after": after}, rows=1)


def _neighbours(archive: Archive, row: Mapping[str, Any], what: AskedPeriod, direction: str) -> list[dict[str, Any]]:
    """Return the events just before or after another one, in the order of time."""
    reach = {"<": ("event_time - INTERVAL 1 DAY", "event_time"), ">": ("event_time", "event_time + INTERVAL 1 DAY")}
    low, high = (one.replace("event_time", "$at::TIMESTAMPTZ") for one in reach[direction])
    turn = "DESC" if direction == "<" else "ASC"
    values = {"at": row["event_time"], "account": row["account_id"], "id": row["event_id"]}
    found = archive.data.ask(
        f"""SELECT {", ".join(USUAL_COLUMNS)} FROM {EVENTS}
        WHERE event_time >= {low} AND event_time <= {high} AND account_id = $account
            AND (event_time, event_id) {direction} ($at, $id)
        ORDER BY event_time {turn}, event_id {turn} LIMIT {_NEIGHBOURS}""",
        values,
    )
    listed = [told(one, what.zone) for one in found]
    return listed[::-1] if direction == "<" else listed
