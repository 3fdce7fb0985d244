"""The columns a table has against those that events need: what is missing, and what cannot be.

Columns are dictionaries as the API of BigQuery has them: `name`, `type`, `mode`, `description`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Fields = Sequence[Mapping[str, Any]]

PARTITION = "event_time"
CLUSTER = ("account_id", "action_type", "actor_email")

# A type has an older and a newer name, and the API may give back either.
_SAME_TYPES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}


def missing(needed: Fields, present: Fields) -> list[dict[str, Any]]:
    """Return the columns to add to a table: NULLABLE, because its older rows do not have them."""
    names = _by_name(present)
    return [{**field, "mode": "NULLABLE"} for field in needed if field["name"].lower() not in names]


def obstacles(needed: Fields, present: Fields) -> list[str]:
    """Return why a table cannot take events, one line a column; empty when it can, or can by adding columns."""
    there, ours = _by_name(present), _by_name(needed)
    found = [obstacle for name, field in ours.items() if name in there and (obstacle := _obstacle(field, there[name]))]
    found += [
        f"column '{field['name']}' is REQUIRED, and events do not have it"
        for name, field in there.items()
        if name not in ours and field.get("mode") == "REQUIRED"
    ]
    return found


def _obstacle(needed: Mapping[str, Any], present: Mapping[str, Any]) -> str | None:
    name, mode = present["name"], present.get("mode", "NULLABLE")
    if _type(present) != _type(needed):
        return f"column '{name}' is {_type(present)}, not {_type(needed)}"
    if mode == "REPEATED":
        return f"column '{name}' is REPEATED"
    if mode == "REQUIRED" and needed["mode"] != "REQUIRED":
        return f"column '{name}' is REQUIRED, and not every event has it"
    if "maxLength" in present:
        return f"column '{name}' holds {present['maxLength']} characters at most"
    return None


def _type(field: Mapping[str, Any]) -> str:
    name = str(field["type"]).upper()
    return _SAME_TYPES.get(name, name)


def _by_name(fields: Fields) -> dict[str, Mapping[str, Any]]:
    return {field["name"].lower(): field for field in fields}
