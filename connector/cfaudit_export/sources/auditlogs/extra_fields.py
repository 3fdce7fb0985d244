"""Fields that rows have beyond the six, should the tool give more one day -> columns of the schema."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pyarrow as pa

from cfaudit_export.schema import COLUMNS
from cfaudit_export.sources.auditlogs.decode import FIELDS

_ALIASES = {"id": "event_id"}
_OURS = {
    *("event_id", "event_key", "event_time", "account_id", "fidelity", "source", "ingested_at", "event_raw"),
    *("replaces", "batch_id", "body_nonce"),
}
_KINDS = {column.name: column.kind for column in COLUMNS if column.name not in _OURS | FIELDS.keys()}


def column_of(field: str) -> str | None:
    """Return the column that a field of a row belongs in, None where there is none."""
    name = _ALIASES.get(field, field)
    return name if name in _KINDS or field in _ALIASES else None


def extra_columns(rows: pa.Table, fields: Collection[str]) -> dict[str, pa.Array]:
    """Return the columns that these fields of the rows fill; slow, as every row is read again."""
    named = {field: column for field in sorted(fields) if (column := column_of(field))}
    if not named:
        return {}
    whole = [json.loads(text) for text in rows["event_raw"].to_pylist()]
    return {column: _column(column, [row.get(field) for row in whole]) for field, column in named.items()}


def _column(name: str, values: list[Any]) -> pa.Array:
    kind = _KINDS.get(name, "string")
    if kind == "int32":
        return pa.array(
            [value if isinstance(value, int) and abs(value) < 1 << 31 else None for value in values], pa.int32()
        )
    return pa.array([_text(value, as_json=kind == "json") for value in values], pa.string())


def _text(value: Any, *, as_json: bool) -> str | None:
    if value is None or (value == "" and not as_json):
        return None
    text = value if isinstance(value, str) and not as_json else json.dumps(value, separators=(",", ":"))
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
