"""The tool of Cloudflare's Audit Logs server: its name, its arguments, and how it words what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cfaudit_export.core.suggest import nearest

STAND_IN = "auditlogs_by_account_id"
FAULT = "Error reading audit logs: "
DEFAULT_ROWS, MOST_ROWS = 10, 1000
_TIME = r"^(\d{4}-\d{2}-\d{2}|(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z))$"
_TIME_WORDS = "Date must be in YYYY-MM-DD or ISO 8601 format with milliseconds (e.g., YYYY-MM-DDTHH:mm:ss.sssZ)"
_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "action_result": ("success", "failure", ""),
    "action_type": ("create", "delete", "view", "update", "login"),
    "actor_context": ("api_key", "api_token", "dash", "oauth", "origin_ca_key"),
    "actor_type": ("cloudflare_admin", "account", "user", "system"),
    "resource_scope": ("memberships", "accounts", "user", "zones"),
    "direction": ("desc", "asc"),
}
_FILTERS = (
    "account_name",
    "action_result",
    "action_type",
    "actor_context",
    "actor_email",
    "actor_id",
    "actor_ip_address",
    "actor_token_id",
    "actor_token_name",
    "actor_type",
    "audit_log_id",
    "raw_cf_ray_id",
    "raw_method",
    "raw_status_code",
    "raw_uri",
    "resource_id",
    "resource_product",
    "resource_type",
    "resource_scope",
    "zone_id",
    "zone_name",
)
FILTER_COLUMNS = {name: {"audit_log_id": "event_id"}.get(name, name) for name in _FILTERS}
"""Filters of the tool, and the column that each is about."""


def _property(name: str) -> dict[str, Any]:
    about = {"description": f"Only entries with this {name.replace('_', ' ')}"}
    if name in _CHOICES:
        return about | {"type": "string", "enum": list(_CHOICES[name])}
    return about | {"type": "number" if name == "raw_status_code" else "string"}


STAND_IN_PROPERTIES: Mapping[str, Mapping[str, Any]] = {
    **{name: _property(name) for name in _FILTERS},
    "since": {"type": "string", "pattern": _TIME, "description": "Start: a date, or a time with milliseconds and Z"},
    "before": {"type": "string", "pattern": _TIME, "description": "End, exclusive: a date, or a time likewise"},
    "direction": {
        "type": "string",
        "enum": list(_CHOICES["direction"]),
        "description": "Order by time (default: desc)",
    },
    "limit": {
        "type": "number",
        "minimum": 1,
        "maximum": MOST_ROWS,
        "description": f"Most entries (default {DEFAULT_ROWS})",
    },
    "cursor": {"type": "string", "description": "Where to continue: result_info.cursor of the answer before"},
    "account_id": {"type": "string", "description": "The account to read, where several were exported"},
}


def stand_in_fault(arguments: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the arguments of a call, in the tool's own form; None if nothing is.

    An argument that the tool does not have is refused: a misspelt filter would answer with all events.
    """
    flaws = [f"{name}: {flaw}" for name in STAND_IN_PROPERTIES if (flaw := _flaw(name, arguments))]
    flaws += [
        f"{name}: Unrecognized argument{nearest(name, STAND_IN_PROPERTIES)}"
        for name in arguments
        if name not in STAND_IN_PROPERTIES
    ]
    if not flaws:
        return None
    return f"Input validation error: Invalid arguments for tool {STAND_IN}: " + ", ".join(flaws)


def _flaw(name: str, arguments: Mapping[str, Any]) -> str | None:
    if name not in arguments:
        return "Invalid input: expected string, received undefined" if name in {"since", "before"} else None
    value = arguments[name]
    if name in _CHOICES:
        choices = "|".join(f'"{choice}"' for choice in _CHOICES[name])
        return None if value in _CHOICES[name] else f"Invalid option: expected one of {choices}"
    wanted = STAND_IN_PROPERTIES[name]["type"]
    if _kind(value) != wanted:
        return f"Invalid input: expected {wanted}, received {_kind(value)}"
    if name == "limit" and not 1 <= value <= MOST_ROWS:
        return "Too small: expected number to be >=1" if value < 1 else f"Too big: expected number to be <={MOST_ROWS}"
    if name in {"since", "before"} and not re.fullmatch(_TIME, value, re.ASCII):
        return _TIME_WORDS
    return "Invalid email address" if name == "actor_email" and not re.fullmatch(_EMAIL, value) else None


def _kind(value: Any) -> str:
    """Return what JavaScript calls the type of a value."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "null" if value is None else "object"
