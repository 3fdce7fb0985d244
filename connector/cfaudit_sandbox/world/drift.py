"""The ways in which the tool may change one day: its name, its arguments, its rows."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from cfaudit_sandbox.world.text import escaped, js

FEWER, IGNORED = ("raw_method", "resource_scope"), ("actor_type",)
DRIFTS = {
    "renamed-tool": "the tool has another name",
    "fewer-filters": f"the tool drops {' and '.join(FEWER)} silently, as it does what it does not know",
    "ignored-filters": f"the tool takes {IGNORED[0]}, and the server behind it ignores it",
    "new-values": "actor_context may be api as well",
    "small-pages": "a page holds 100 rows at most",
    "required-argument": "the tool wants an argument more",
    "more-fields": "rows have an id, and further fields",
    "arrays": "rows have arrays in the place of texts",
}
"""The name of each, and what it means."""

TOOL = "list_audit_events"
SMALL_PAGE = 100
ARGUMENT = "region"


def changed_schema(schema: dict[str, Any], drift: Collection[str]) -> dict[str, Any]:
    """Return the tool's input schema as it is after the changes."""
    properties = {name: dict(body) for name, body in schema["properties"].items()}
    required = list(schema["required"])
    if "fewer-filters" in drift:
        for name in FEWER:
            del properties[name]
    if "new-values" in drift:
        properties["actor_context"]["enum"] = [*properties["actor_context"]["enum"], "api"]
    if "small-pages" in drift:
        properties["limit"]["maximum"] = SMALL_PAGE
    if "required-argument" in drift:
        properties[ARGUMENT] = {"type": "string"}
        required.append(ARGUMENT)
    return {**schema, "properties": properties, "required": required}


def unused_filters(drift: Collection[str]) -> tuple[str, ...]:
    """Return the filters that have no effect any more."""
    return (*(FEWER if "fewer-filters" in drift else ()), *(IGNORED if "ignored-filters" in drift else ()))


def changed_row(row: str, record: str, drift: Collection[str]) -> str:
    """Return a row, as it stands inside a JSON string, as it is after the changes."""
    fields, whole = json.loads(json.loads(f'"{row}"')), json.loads(record)
    if "more-fields" in drift:
        fields["id"] = whole["id"]
        fields["actor_ip_address"] = whole.get("actor", {}).get("ip_address")
        fields["raw_status_code"] = whole.get("raw", {}).get("status_code")
        fields["resource_request"] = whole.get("resource", {}).get("request")
        fields["mood"] = {"of": "the server"}
    if "arrays" in drift:
        fields |= {name: [fields[name]] for name in ("actor_email", "type") if name in fields}
    return escaped(js(fields))
