# ruff: noqa: S608  # the SQL is made of texts of this folder and names of columns; whatever comes from elsewhere is bound
"""`auditlogs_by_account_id`: the reply that Cloudflare's server would give, made of what was exported.

Nothing is said of time that was not exported: that is an error, with the time that was. A row that is known to exist
and cannot be read, and a gap, is a row without a time: so an exporter that reads this server has the gap as well.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.files.database import EVENTS
from cfaudit_export.analysis.files.footers import streams
from cfaudit_export.core.model import EPOCH, MILLISECOND, Gap, Window, iso
from cfaudit_export.errors import CfauditError
from cfaudit_export.schema import SHADOW
from cfaudit_export.serve.answers.conditions import Conditions
from cfaudit_export.serve.answers.period import state_of
from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.stand_in import DEFAULT_ROWS, FAULT, FILTER_COLUMNS

_MICROSECOND = timedelta(microseconds=1)
# Callers who do not know whether the ends belong to an answer ask for a little more than they want.
_MARGIN = timedelta(milliseconds=5)
_SIX = ("description", "time", "actor_email", "actor_token_name", "product", "type")
_MORE = {
    "id": "event_id",
    **{
        name: name
        for name in (
            *("action_type", "action_result", "actor_id", "actor_type", "actor_context", "actor_ip_address"),
            *("actor_token_id", "resource_id", "resource_scope", "zone_id", "zone_name"),
            *("raw_cf_ray_id", "raw_method", "raw_uri", "raw_status_code", "fidelity"),
        )
    },
}
_COLUMNS = (
    *("event_time", "event_key", "action_description", "actor_email", "actor_token_name", "resource_product"),
    *("resource_type", "event_raw", *_MORE.values()),
)
_ORDER = ("event_time", "event_key", "event_id")


class StandInError(Exception):
    """What the tool answers as its error: the object that is sent as text."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(body["error"])
        self.body = body


def answer_stand_in(archive: Archive, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Answer the tool: its reply, and how many rows that has.

    Raises:
        StandInError: the account is none, the time does not exist or was not exported, or the data cannot be read.
    """
    account = _account(archive, arguments.get("account_id"))
    try:
        since, before = _time(arguments["since"]), _time(arguments["before"])
        if since >= before:
            return {"logs": [], "result_info": {"count": 0}}, 0
        coverage = _covered(archive, account, Window(since, before))
        return _page(archive, account, Window(since, before), arguments, coverage)
    except (CfauditError, ValueError, OverflowError) as error:
        raise StandInError({"error": f"{FAULT}{error}"}) from error


def _account(archive: Archive, asked: str | None) -> str:
    known = archive.known_accounts()
    if asked in known:
        return str(asked)
    if not asked and len(known) == 1:
        return known[0]
    error = (
        f'Account "{asked}" is not one of the accounts that were exported.'
        if asked
        else "account_id is required: several accounts were exported."
    )
    raise StandInError({"error": error, "available_accounts": [{"id": one, "name": ""} for one in known]})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text if "T" in text else f"{text}T00:00:00Z").astimezone(UTC)


def _covered(archive: Archive, account: str, asked: Window) -> Coverage:
    """Return the coverage of a time that was exported, but for its gaps.

    Raises:
        StandInError: some of it was not.
    """
    found = archive.coverage(asked, [account])
    lacking = [one for one in found.missing if not _is_margin(one, asked)]
    until = archive.exported_until([account])
    if state_of(found) == "unknown" and found.unknown:
        raise StandInError(
            {"error": f"{FAULT}not known to be exported: {found.reason}; start the server with the state of the runs"}
        )
    if lacking:
        reach = f"; exported until {iso(until)}: ask with before={iso(until)} or earlier" if until else ""
        listed = ", ".join(f"{iso(one.since)} to {iso(one.before)}" for one in lacking[:3])
        raise StandInError({"error": f"{FAULT}not exported: {listed}{reach}"})
    return found


def _is_margin(one: Window, asked: Window) -> bool:
    return one.duration <= _MARGIN and (one.since == asked.since or one.before == asked.before)


def _page(
    archive: Archive, account: str, asked: Window, arguments: Mapping[str, Any], coverage: Coverage
) -> tuple[dict[str, Any], int]:
    is_newest_first, limit = arguments.get("direction", "desc") == "desc", int(arguments.get("limit", DEFAULT_ROWS))
    found = Conditions()
    for name, columns in FILTER_COLUMNS.items():
        if name in arguments:
            found.add(columns, arguments[name] or None)
    found.values |= {"account": account, "since": asked.since, "before": asked.before}
    clauses = ["account_id = $account", "event_time >= $since", "event_time < $before", *found.clauses]
    at = _place(arguments.get("cursor"))
    if at is not None:
        found.values |= {f"place_{number}": one for number, one in enumerate(at)}
        clauses.append(f"({', '.join(_ORDER)}) {'<' if is_newest_first else '>'} ($place_0, $place_1, $place_2)")
    turn = "DESC" if is_newest_first else "ASC"
    rows = archive.data.ask(
        f"SELECT {', '.join(dict.fromkeys(_COLUMNS))} FROM {EVENTS} WHERE {' AND '.join(clauses)} {_once(archive)} "
        f"ORDER BY {', '.join(f'{name} {turn}' for name in _ORDER)} LIMIT {limit + 1}",
        found.values,
    )
    more, rows = len(rows) > limit, rows[:limit]
    # Rows of a gap pass no filter, as nothing is known of them.
    gaps = [] if found.clauses else [one for one in coverage.gaps if len(one.shadows) < max(one.rows, 1)]
    start = at[0] if at else asked.before if is_newest_first else asked.since
    end = rows[-1]["event_time"] if more else asked.since if is_newest_first else asked.before
    logs = list(_with_gaps(rows, gaps, start, end))
    info: dict[str, Any] = {"count": len(logs)} | ({"cursor": _cursor(rows[-1])} if more else {})
    return {"logs": logs, "result_info": info}, len(logs)


def _once(archive: Archive) -> str:
    """Return what keeps one row of each event, where several streams may have exported the same account."""
    if len(streams(archive.data.listing.files)) <= len(archive.data.accounts):
        return ""
    return (
        "QUALIFY row_number() OVER (PARTITION BY account_id, event_key ORDER BY fidelity = 'full' DESC, event_id) = 1"
    )


def _with_gaps(
    rows: Sequence[Mapping[str, Any]], gaps: Sequence[Gap], start: datetime, end: datetime
) -> Iterator[dict[str, Any]]:
    """Yield rows, and between those that have a gap between them a row for it."""
    told: set[Window] = set()
    before = start
    for row in rows:
        yield from _unread(gaps, before, row["event_time"], told)
        yield _row(row)
        before = row["event_time"]
    yield from _unread(gaps, before, end, told)


def _unread(gaps: Sequence[Gap], one: datetime, other: datetime, told: set[Window]) -> Iterator[dict[str, Any]]:
    """Yield a row for every gap that lies between two times; for one that only touches them, if it has none yet.

    The ends of a gap are the milliseconds of rows that were read, as a rule.
    """
    low, high = sorted((one, other))
    for gap in gaps:
        since, before = gap.window.since, gap.window.before
        is_between = min(high, before) - max(low, since) > MILLISECOND
        if is_between or (gap.window not in told and since <= high and low < before):
            told.add(gap.window)
            span = f"{iso(since)} to {iso(before)}"
            yield {"description": f"(could not be exported: {gap.rows or 'unknown'} rows, {span})", "time": None}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row: the six fields as they were read, then what else is known."""
    six = _six(row)
    if row["fidelity"] == SHADOW:
        six |= {"description": f"(an event of {iso(row['event_time'])} that cannot be read)", "time": None}
    known = {name: row[column] for name, column in _MORE.items() if row[column] is not None}
    return {
        "description": six.get("description") or "",
        **{name: six[name] for name in _SIX[1:] if name in six},
        **known,
    }


def _six(row: Mapping[str, Any]) -> dict[str, Any]:
    received = _received(row["event_raw"])
    action, actor, resource = (received.get(name) for name in ("action", "actor", "resource"))
    if isinstance(action, dict):
        actor, resource = (one if isinstance(one, dict) else {} for one in (actor, resource))
        given = (action.get("description"), action.get("time"), actor.get("email"), actor.get("token_name"))
        received = dict(zip(_SIX, (*given, resource.get("product"), resource.get("type")), strict=True))
    elif "time" not in received:
        time = row["event_time"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        columns = ("action_description", "", "actor_email", "actor_token_name", "resource_product", "resource_type")
        received = {name: time if name == "time" else row[column] for name, column in zip(_SIX, columns, strict=True)}
    return {name: received[name] for name in _SIX if received.get(name) is not None}


def _received(raw: str | None) -> dict[str, Any]:
    try:
        found = json.loads(raw or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _cursor(row: Mapping[str, Any]) -> str:
    body = [(row["event_time"] - EPOCH) // _MICROSECOND, row["event_key"], row["event_id"]]
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode()


def _place(cursor: str | None) -> tuple[datetime, str, str] | None:
    if not cursor:
        return None
    try:
        at, key, event = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return EPOCH + at * _MICROSECOND, str(key), str(event)
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise StandInError({"error": f"{FAULT}the cursor is not one of this server"}) from None
