"""The tools of both servers, by their contracts: arguments of a call -> what the log is asked -> the text of the reply.

Nothing here is shared with the sandbox of the package, which has ideas of its own about all of this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bad_habits.log import ACCOUNT, Ask, BadAskError, Page, text, text_of

FILTERS: Mapping[str, tuple[str, ...]] = {
    "account_name": (),
    "action_result": ("success", "failure", ""),
    "action_type": ("create", "delete", "view", "update", "login"),
    "actor_context": ("api_key", "api_token", "dash", "oauth", "origin_ca_key"),
    "actor_email": (),
    "actor_id": (),
    "actor_ip_address": (),
    "actor_token_id": (),
    "actor_token_name": (),
    "actor_type": ("cloudflare_admin", "account", "user", "system"),
    "audit_log_id": (),
    "raw_cf_ray_id": (),
    "raw_method": (),
    "raw_status_code": (),
    "raw_uri": (),
    "resource_id": (),
    "resource_product": (),
    "resource_type": (),
    "resource_scope": ("memberships", "accounts", "user", "zones"),
    "zone_id": (),
    "zone_name": (),
}
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}|(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z))")
_PREFIX = "Error reading audit logs: "


@dataclass(frozen=True)
class Said:
    """What a tool said."""

    text: str
    is_error: bool = False


class UpstreamError(Exception):
    """Cloudflare's API answers with a status other than 200; 0: the connection broke."""

    def __init__(self, status: int, retry_after: str | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


Answering = Callable[[Ask], Page]


def nanoseconds(time: str) -> int:
    """Read a date, or a time of the tool's form."""
    at = datetime.fromisoformat(time if "T" in time else f"{time}T00:00:00Z")
    seconds = at.replace(microsecond=0).timestamp()
    return int(seconds) * 1_000_000_000 + at.microsecond * 1000


# -- Audit Logs ---------------------------------------------------------------------------------------

AUDITLOGS = "auditlogs_by_account_id"


def auditlogs_schema() -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: {
            "type": "number" if name == "raw_status_code" else "string",
            **({"enum": list(values)} if values else {}),
        }
        for name, values in FILTERS.items()
    }
    properties |= {
        "since": {"type": "string"},
        "before": {"type": "string"},
        "direction": {"type": "string", "enum": ["desc", "asc"]},
        "limit": {"type": "number", "minimum": 1, "maximum": 1000},
        "cursor": {"type": "string"},
    }
    return {"type": "object", "properties": properties, "required": ["since", "before"]}


def auditlogs(arguments: Mapping[str, Any], answering: Answering) -> Said:
    """Answer a call of the Audit Logs tool."""
    flaws = [
        f"{name}: Date must be in YYYY-MM-DD or ISO 8601 format with milliseconds"
        for name in ("since", "before")
        if not _TIME.fullmatch(str(arguments.get(name)))
    ]
    if not 1 <= arguments.get("limit", 10) <= 1000:
        flaws.append("limit: Too big: expected number to be <=1000")
    if flaws:
        return Said(
            f"Input validation error: Invalid arguments for tool {AUDITLOGS}: {', '.join(flaws)}", is_error=True
        )
    ask = Ask(
        nanoseconds(arguments["since"]),
        nanoseconds(arguments["before"]),
        arguments.get("direction", "desc"),
        int(arguments.get("limit", 10)),
        arguments.get("cursor", ""),
        tuple((name, arguments[name]) for name in FILTERS if name in arguments),
    )
    try:
        page = answering(ask)
    except BadAskError:
        return failed("Cloudflare API request failed")
    except UpstreamError as error:
        return failed(_words(error.status))
    issues = [_issue(index, event.odd) for index, event in enumerate(page.events) if event.odd]
    if issues:
        return failed(json.dumps(issues, indent=2))
    rows = ",".join(text_of(event, "auditlogs") for event in page.events)
    return Said(f'{{"logs":[{rows}],"result_info":{text(info(page))}}}')


def failed(words: str) -> Said:
    return Said(text({"error": _PREFIX + words}), is_error=True)


def info(page: Page) -> dict[str, Any]:
    """`result_info` of a page; a count of None is left out."""
    return {
        **({} if page.count is None else {"count": page.count}),
        **({} if page.cursor is None else {"cursor": page.cursor}),
    }


def _issue(index: int, field: str) -> dict[str, Any]:
    return {
        "expected": "record",
        "code": "invalid_type",
        "path": ["result", index, *field.split(".")],
        "message": "Invalid input: expected record, received array",
    }


def _words(status: int) -> str:
    if not status:
        return "Network connection lost."
    return "Upstream Cloudflare API unavailable" if status >= 500 else "Cloudflare API request failed"


# -- code mode ----------------------------------------------------------------------------------------

CODEMODE = "execute"
_PARAMETERS = "const ask = "


def codemode_schema() -> dict[str, Any]:
    properties = {"code": {"type": "string"}, "account_id": {"type": "string"}}
    return {"type": "object", "properties": properties, "required": ["code"]}


def codemode(arguments: Mapping[str, Any], answering: Answering) -> Said:
    """Answer a call of `execute` as the exporter's snippet would, run by the server."""
    code = arguments["code"]
    at = code.find(_PARAMETERS)
    if at < 0:
        return Said("Error: this is not the snippet", is_error=True)
    asked, _ = json.JSONDecoder().raw_decode(code, at + len(_PARAMETERS))
    names = ("v", "account", "status", "retryAfter", "ratelimit", "ray", "bytes", "pages", "err", "left")
    head: dict[str, Any] = {**dict.fromkeys(names), "v": 1, "bytes": 0, "pages": []}
    head["account"] = asked["account"] or ACCOUNT
    bodies: list[str] = []
    cursor = asked["cursor"]
    while head["err"] is None and len(bodies) < asked["pages"]:
        try:
            page = answering(_ask(dict(asked["query"]), cursor))
        except BadAskError:
            _fail(head, UpstreamError(400))
            break
        except UpstreamError as error:
            _fail(head, error)
            break
        body = _body(page)
        size = len(body.encode())
        head["status"] = 200
        if head["bytes"] + size > asked["most"]:
            head["err"] = {"kind": "size", "text": str(size)}
            if not bodies and len(page.events) == 1:
                record = page.events[0].record
                head["left"] = {"id": record["id"], "time": record["action"]["time"], "cursor": page.cursor or None}
            break
        cursor = page.cursor or None
        head["bytes"] += size
        head["pages"].append([size, cursor])
        bodies.append(body)
        if cursor is None:
            break
    return Said(f"{text(head)}\n{''.join(bodies)}")


def _ask(query: Mapping[str, str], cursor: str | None) -> Ask:
    filters = tuple(
        (name, int(value) if name == "raw_status_code" else value) for name, value in query.items() if name in FILTERS
    )
    return Ask(
        nanoseconds(query["since"]),
        nanoseconds(query["before"]),
        query.get("direction", "desc"),
        int(query.get("limit", 100)),
        cursor or "",
        filters,
    )


def _body(page: Page) -> str:
    rows = ",".join(text_of(event, "codemode") for event in page.events)
    return f'{{"success":true,"errors":[],"messages":[],"result":[{rows}],"result_info":{text(info(page))}}}'


def _fail(head: dict[str, Any], error: UpstreamError) -> None:
    if not error.status:
        head["err"] = {"kind": "thrown", "text": "Error: Network connection lost."}
        return
    said = {"success": False, "errors": [{"code": 10000, "message": f"upstream {error.status}"}], "result": None}
    head |= {"status": error.status, "retryAfter": error.retry_after, "err": {"kind": "status", "text": text(said)}}


def with_limit(ask: Ask, limit: int) -> Ask:
    return replace(ask, limit=min(ask.limit, limit))
