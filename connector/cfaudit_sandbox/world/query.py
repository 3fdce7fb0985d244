"""What may be asked of an audit log: a window, a direction, filters on raw values, and a place to go on from."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Filters = tuple[tuple[str, str | float], ...]
_LARGEST = 2**63

# Where a filter finds its value in a record; where two places are given, the first that has one counts.
_PATHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "account_name": (("account", "name"),),
    "action_result": (("action", "result"),),
    "action_type": (("action", "type"),),
    "actor_context": (("actor", "context"),),
    "actor_email": (("actor", "email"),),
    "actor_id": (("actor", "id"),),
    "actor_ip_address": (("actor", "ip_address"),),
    "actor_token_id": (("actor", "token", "id"), ("actor", "token_id")),
    "actor_token_name": (("actor", "token", "name"), ("actor", "token_name")),
    "actor_type": (("actor", "type"),),
    "audit_log_id": (("id",),),
    "raw_cf_ray_id": (("raw", "cf_ray_id"),),
    "raw_method": (("raw", "method"),),
    "raw_status_code": (("raw", "status_code"),),
    "raw_uri": (("raw", "uri"),),
    "resource_id": (("resource", "id"),),
    "resource_product": (("resource", "product"),),
    "resource_type": (("resource", "type"),),
    "resource_scope": (("resource", "scope"),),
    "zone_id": (("zone", "id"),),
    "zone_name": (("zone", "name"),),
}
FILTERS = tuple(_PATHS)
"""The names of all filters."""


class BadQueryError(ValueError):
    """The audit endpoint answers 400: a cursor it cannot read or that has expired, or a window that is none."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """One call of the audit endpoint; the instants are in nanoseconds since 1970."""

    since_ns: int
    before_ns: int
    direction: Literal["asc", "desc"] = "desc"
    limit: int = 10
    cursor: str = ""
    filters: Filters = ()


@dataclass(frozen=True, slots=True)
class Position:
    """The row after which a walk goes on: its instant, its segment of the log and its number there."""

    time_ns: int
    segment: int
    index: int


def value_of(record: Mapping[str, Any], name: str) -> Any:
    """Look up what a filter compares with; none where the record lacks it."""
    found: Any = None
    for path in _PATHS[name]:
        found = record
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            break
    return found


def matches(record: Mapping[str, Any], filters: Filters) -> bool:
    """Tell whether a record passes every filter, by exact comparison of raw values."""
    return all(value_of(record, name) == wanted for name, wanted in filters)


def write_cursor(*numbers: int) -> str:
    """Make an opaque cursor of numbers."""
    return base64.urlsafe_b64encode(".".join(map(str, numbers)).encode()).decode().rstrip("=")


def read_cursor(cursor: str, count: int) -> tuple[int, ...]:
    """Read the `count` numbers of a cursor.

    Raises:
        BadQueryError: this text was never a cursor of that kind.
    """
    try:
        numbers = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode().split(".")
        found = tuple(map(int, numbers))
    except (ValueError, binascii.Error) as error:
        raise BadQueryError("the cursor cannot be read") from error
    if len(found) != count or max(map(abs, found)) >= _LARGEST:
        raise BadQueryError("the cursor is of another kind")
    return found
