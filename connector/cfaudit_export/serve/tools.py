"""What can be asked: name, arguments and time limit of every tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cfaudit_export.schema import COLUMNS
from cfaudit_export.serve.stand_in import STAND_IN, STAND_IN_PROPERTIES

DEFAULT_BYTES, LEAST_BYTES, MOST_BYTES = 16_000, 2_000, 60_000
"""How large an answer is in bytes of JSON: without `max_bytes`, and at least and at most with it."""

MOST_EVENTS, DEFAULT_EVENTS = 200, 50
SQL_SECONDS, SECONDS = 10.0, 30.0

_TIME = "ISO 8601 such as 2026-11-29T11:30:00+01:00, an age such as 24h, or words such as 'monday 14:00'"


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


_MAX_BYTES = {
    "type": "integer",
    "minimum": LEAST_BYTES,
    "maximum": MOST_BYTES,
    "description": f"Most bytes of the answer (default {DEFAULT_BYTES}); lists are cut, left_out says by how many",
}
_ACCOUNT = _text("Only this account (32 hexadecimal digits); default: all that were exported")
_ZONE = _text("Time zone of days, of hours, and of the answer, such as Europe/Berlin (default: the server's)")
_ACTOR = _text("Only this actor: e-mail address or id, or name or id of a token")
_RESOURCE = _text("Only this resource: its id, type or product, or name or id of its zone")
_EVENT_ID = _text("event_id of an event, from another answer")


def _period(default: str) -> dict[str, Any]:
    return {
        "when": _text("The period in words: 'yesterday lunch', 'last week', '2026-11-29 11:30-14:00', 'today morning'"),
        "since": _text(f"Start, instead of 'when': {_TIME} (default: {default} before the end)"),
        "before": _text(
            "End, exclusive; of a day in words its end (default: the end of the export if fresh, else now)"
        ),
    }


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool.

    Attributes:
        name: its name.
        title: what people see.
        description: what it answers.
        properties: its arguments, as JSON Schema.
        required: names of arguments that must be given.
        seconds: how long an answer may take.
        only: `sql` or `stand_in` where it is offered only with that.
    """

    name: str
    title: str
    description: str
    properties: Mapping[str, Mapping[str, Any]]
    required: tuple[str, ...] = ()
    seconds: float = SECONDS
    only: Literal["", "sql", "stand_in"] = ""

    @property
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its arguments."""
        body: dict[str, Any] = {"type": "object", "properties": dict(self.properties), "additionalProperties": False}
        return body | ({"required": list(self.required)} if self.required else {})


_COLUMN_NAMES = ", ".join(one.name for one in COLUMNS)
TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "audit_coverage",
        "What was exported",
        "What the archive holds: accounts, from when until when, gaps, how complete the records are, how fresh. Ask "
        "this first.",
        {"max_bytes": _MAX_BYTES},
    ),
    ToolSpec(
        "audit_findings",
        "What deserves a look",
        "What rules find suspicious: episodes of one actor in order, the worst first; each finding with its rule, why "
        "it was raised, who, when, from where, what to do, and the event_ids to look at with audit_event.",
        {
            **_period("24h"),
            "severity": _text("Only findings of at least this severity", enum=["low", "medium", "high"]),
            "actor": _ACTOR,
            "time_zone": _ZONE,
            "account": _ACCOUNT,
            "max_bytes": _MAX_BYTES,
        },
    ),
    ToolSpec(
        "audit_timeline",
        "Who did what, step by step",
        "Sessions of each actor and credential in order, repeated steps folded with a count. For the sequence of "
        "changes around a moment.",
        {
            **_period("24h"),
            "actor": _ACTOR,
            "resource": _RESOURCE,
            "time_zone": _ZONE,
            "account": _ACCOUNT,
            "max_bytes": _MAX_BYTES,
        },
    ),
    ToolSpec(
        "audit_report",
        "Summary of a period",
        "Totals, actors, credentials, failures, sign-ins and sensitive changes of a period, compared with the period "
        "of the same length before.",
        {**_period("7d"), "time_zone": _ZONE, "account": _ACCOUNT, "max_bytes": _MAX_BYTES},
    ),
    ToolSpec(
        "audit_events",
        "List events",
        "Events that match conditions on columns, newest first. Empty columns are left out of a row. Columns: "
        f"{_COLUMN_NAMES}.",
        {
            **_period("24h"),
            "where": {
                "type": "object",
                "description": 'Column -> value, list of values, {"not": value or list}, {"contains": text}, or null '
                'for empty; all must hold. Example: {"action_type": ["create", "delete"], '
                '"actor_email": {"not": "ci@example.com"}}',
            },
            "fields": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Columns to return; JSON bodies such as resource_request only if named here",
            },
            "order": _text("newest or oldest first (default: newest)", enum=["newest", "oldest"]),
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_EVENTS,
                "description": f"Most rows (default {DEFAULT_EVENTS})",
            },
            "cursor": _text("Where to continue: next_cursor of the answer before; period and conditions are its own"),
            "time_zone": _ZONE,
            "account": _ACCOUNT,
            "max_bytes": _MAX_BYTES,
        },
    ),
    ToolSpec(
        "audit_event",
        "One event whole",
        "All that was recorded of one event, what it changed compared with the event before on the same resource, and "
        "the events just before and after it.",
        {"event_id": _EVENT_ID, "time_zone": _ZONE, "max_bytes": _MAX_BYTES},
        ("event_id",),
    ),
    ToolSpec(
        "audit_sql",
        "Query with SQL",
        f"One SELECT in DuckDB's SQL over the view audit_events (columns: {_COLUMN_NAMES}, event_date). At most "
        f"{MOST_EVENTS} rows and {SQL_SECONDS:.0f} s. Nothing else can be read: no files, no network. Conditions on "
        "event_time skip whole files.",
        {
            "query": _text("The statement, such as: SELECT actor_email, count(*) FROM audit_events GROUP BY 1"),
            "time_zone": _ZONE,
            "max_bytes": _MAX_BYTES,
        },
        ("query",),
        SQL_SECONDS,
        "sql",
    ),
    ToolSpec(
        STAND_IN,
        "Audit logs by account id",
        "Reads the audit log of a Cloudflare account from the exported archive, in the form of Cloudflare's Audit Logs "
        "server.",
        STAND_IN_PROPERTIES,
        ("since", "before"),
        only="stand_in",
    ),
)


def offered(*, runs_sql: bool, stands_in: bool, pins_account: bool) -> dict[str, ToolSpec]:
    """Return the tools that are offered, by name; where one account is pinned, none takes another."""
    kinds = {"", *(["sql"] if runs_sql else []), *(["stand_in"] if stands_in else [])}
    found = {one.name: one for one in TOOLS if one.only in kinds}
    return {name: _pinned(one) for name, one in found.items()} if pins_account else found


def _pinned(tool: ToolSpec) -> ToolSpec:
    properties = {name: body for name, body in tool.properties.items() if name != "account"}
    return ToolSpec(tool.name, tool.title, tool.description, properties, tool.required, tool.seconds, tool.only)
