"""The body of a load job -> rows, or what is wrong with which line."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import json_type
import pyarrow as pa

TYPES = {
    "STRING": pa.string(),
    "JSON": pa.string(),
    "TIMESTAMP": pa.timestamp("us"),
    "INTEGER": pa.int64(),
}
_TIMESTAMP = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}(?:[ Tt]\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d{1,6})?)?(?: ?(?:UTC|Z|z|[+-]\d{1,2}:\d{2}))?"
)


class BadRowError(Exception):
    """A line is no row of the table."""


@dataclass
class Parsed:
    """What a body holds: rows, or errors as a job reports them."""

    count: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)


def parse_body(body: bytes, fields: list[Mapping[str, Any]], row_bytes: int) -> Parsed:
    """Read lines until one is bad: a job allows none."""
    parsed = Parsed()
    position = 0
    by_name = {one["name"].lower(): one for one in fields}
    required = [one["name"] for one in fields if one.get("mode") == "REQUIRED"]
    for line in lines(body):
        parsed.count += 1
        try:
            parsed.rows.append(_row(line, by_name, required, row_bytes))
        except BadRowError as error:
            parsed.errors = _errors(parsed.count, position, str(error))
            parsed.rows = []
            return parsed
        position += len(line) + 1
    return parsed


def count_lines(body: bytes) -> int:
    """Count rows and read nothing in them."""
    return _unpacked(body).count(b"\n")


def lines(body: bytes) -> Iterator[bytes]:
    unpacked = _unpacked(body)
    if unpacked and not unpacked.endswith(b"\n"):
        unpacked += b"\n"
    yield from unpacked.split(b"\n")[:-1]


def as_table(rows: list[dict[str, Any]], fields: list[Mapping[str, Any]]) -> pa.Table:
    """Return rows as columns, but for those that are null in all of them."""
    used = set().union(*rows)
    return pa.table(
        {
            one["name"]: pa.array([row.get(one["name"]) for row in rows], TYPES[one["type"]])
            for one in fields
            if one["name"] in used
        }
    )


def _unpacked(body: bytes) -> bytes:
    return zlib.decompress(body, 31) if body[:2] == b"\x1f\x8b" else body


def _errors(count: int, position: int, words: str) -> list[dict[str, str]]:
    prefix = "Error while reading data, error message: "
    summary = f"{prefix}JSON table encountered too many errors, giving up. Rows: {count}; errors: 1."
    return [
        {"reason": "invalid", "message": f"{summary} Please look into the errors[] collection for more details."},
        {
            "reason": "invalid",
            "message": f"{prefix}JSON processing encountered too many errors, giving up. Rows: {count}; errors: 1;"
            " max bad: 0; error percent: 0",
        },
        {
            "reason": "invalid",
            "message": f"{prefix}JSON parsing error in row starting at position {position}: {words}",
        },
    ]


def _row(line: bytes, by_name: Mapping[str, Mapping[str, Any]], required: list[str], row_bytes: int) -> dict[str, Any]:
    if len(line) > row_bytes:
        raise BadRowError(f"Row size is larger than: {row_bytes}.")
    try:
        values = json_type.parse(line.decode())
    except (json_type.NotStorableError, UnicodeDecodeError) as error:
        raise BadRowError(str(error)) from None
    if not isinstance(values, dict):
        raise BadRowError("Parser terminated before end of string")
    row = {}
    for name, value in values.items():
        column = by_name.get(name.lower())
        if column is None:
            raise BadRowError(f"No such field: {name}.")
        row[column["name"]] = None if value is None else _cell(column, value)
    for name in required:
        if row.get(name) is None:
            raise BadRowError(f"Missing required field: {name}.")
    return row


def _cell(column: Mapping[str, Any], value: Any) -> Any:
    match column["type"], value:
        case "JSON", _:
            return json_type.text(value)
        case "STRING", str():
            return value
        case "INTEGER", int() if not isinstance(value, bool):
            return value
        case "TIMESTAMP", str() if _TIMESTAMP.fullmatch(value):
            at = datetime.fromisoformat(value.replace(" UTC", "Z"))
            return at.replace(tzinfo=None) - (at.utcoffset() or timedelta())
    kind = str(column["type"]).lower()
    raise BadRowError(f"Could not convert value to {kind}. Field: {column['name']}; Value: {value}")
