"""What the peers share: the pages of the API, and a record as the columns of our schema. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

_PATHS = {
    "event_id": ("id",),
    "account_id": ("account", "id"),
    "account_name": ("account", "name"),
    "action_type": ("action", "type"),
    "action_result": ("action", "result"),
    "action_description": ("action", "description"),
    "actor_id": ("actor", "id"),
    "actor_type": ("actor", "type"),
    "actor_email": ("actor", "email"),
    "actor_context": ("actor", "context"),
    "actor_ip_address": ("actor", "ip_address"),
    "actor_token_id": ("actor", "token", "id"),
    "actor_token_name": ("actor", "token", "name"),
    "resource_id": ("resource", "id"),
    "resource_type": ("resource", "type"),
    "resource_product": ("resource", "product"),
    "raw_cf_ray_id": ("raw", "cf_ray_id"),
    "raw_method": ("raw", "method"),
    "raw_uri": ("raw", "uri"),
    "raw_user_agent": ("raw", "user_agent"),
    "zone_id": ("zone", "id"),
    "zone_name": ("zone", "name"),
}
_SURROGATE = re.compile(rb"\\ud[89a-f][0-9a-f]{2}")
_FREE_FORM = ("scope", "request", "response", "value")
COLUMNS = ("event_time", *_PATHS, *(f"resource_{name}" for name in _FREE_FORM), "raw_status_code", "event_raw")


def without_surrogates(body: bytes) -> bytes:
    """Return a page without the halves of surrogate pairs that records may hold: all peers die of them."""
    return _SURROGATE.sub(rb"\\ufffd", body)


def pages(get: Callable[[str, dict[str, Any]], Any], url: str, since: str, before: str) -> Iterator[list[Any]]:
    """Yield page after page, oldest first."""
    query: dict[str, Any] = {"since": since, "before": before, "direction": "asc", "limit": 1000}
    while True:
        reply = get(url, query)
        yield reply["result"]
        if not (cursor := reply["result_info"].get("cursor")):
            return
        query["cursor"] = cursor


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as flat columns, its event beside them."""
    row: dict[str, Any] = {"event_time": datetime.fromisoformat(record["action"]["time"])}
    for name, path in _PATHS.items():
        value: Any = record
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        row[name] = value
    resource = record.get("resource") or {}
    for name in _FREE_FORM:
        row[f"resource_{name}"] = json.dumps(resource[name]) if name in resource else None
    status = (record.get("raw") or {}).get("status_code")
    row["raw_status_code"] = None if status is None else str(status)
    row["event_raw"] = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    return row
