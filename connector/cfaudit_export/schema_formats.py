"""Schema -> the forms people and warehouses read: a table, Markdown, Arrow, BigQuery JSON, JSON Schema.

`python -m cfaudit_export.schema_formats --write schemas/` writes the files of that folder anew.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cfaudit_export.schema import COLUMNS, SCHEMA_VERSION, Column, Kind, schema

_BIGQUERY_TYPES: Mapping[Kind, str] = {"string": "STRING", "json": "JSON", "timestamp": "TIMESTAMP", "int32": "INTEGER"}

_JSON_TYPES: Mapping[Kind, Mapping[str, Any]] = {
    "string": {"type": "string"},
    "json": {"type": "string", "contentMediaType": "application/json"},
    "timestamp": {"type": "string", "format": "date-time"},
    "int32": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
}

_README = """\
# Schema of an exported audit event

Version {version}. The files here are generated from `cfaudit_export.schema`; a test compares them, so do not edit them:

    python -m cfaudit_export.schema_formats --write schemas/

| file | what it is |
|---|---|
| `audit_event.v{version}.json` | JSON Schema (draft 2020-12) of one event as a line of NDJSON |
| `audit_event.v{version}.bigquery.json` | schema of the table in BigQuery, as `bq` and the API take it |
| `samples/` | events as received, and the rows they become |

Version {version} only ever grows at the end, by columns that may be null; anything else would be another version.

## Columns

A column that is not marked as never null is null where the source cannot know it. Values of enumerations are open: a
new one is kept as it is. `json` is text that holds JSON; in BigQuery it becomes a JSON column. A `timestamp` has
microseconds and is UTC.

{columns}
## Samples

Each file in `samples/` holds one event. `received` is what the source gave; its text is that object in compact JSON (no
spaces, no character escaped that need not be). `source` names the source plugin, `account` is the account that was
asked, and `read_at` is when. `row` is what is exported, without the columns that are null.
"""


def as_table() -> str:
    """Return the columns as a table for a terminal of 80 characters; `*` marks those that are never null."""
    name_width = max(len(column.name) for column in COLUMNS) + 2
    kind_width = max(len(column.kind) for column in COLUMNS) + 1
    lines = [f"{'column':{name_width}}{'type':{kind_width}}meaning (* is never null)"]
    for column in COLUMNS:
        name = column.name + "*" * column.required
        text = textwrap.wrap(column.meaning, 80 - name_width - kind_width)
        lines.append(f"{name:{name_width}}{column.kind:{kind_width}}{text[0]}")
        lines += [" " * (name_width + kind_width) + line for line in text[1:]]
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """Return the columns as a Markdown table, with where each comes from."""
    lines = ["| column | type | never null | from | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{column.name}` | {column.kind} | {'yes' if column.required else ''} | {column.origin} | {column.meaning} |"
        for column in COLUMNS
    ]
    return "\n".join(lines) + "\n"


def as_arrow() -> str:
    """Return the Arrow schema as pyarrow prints it, without the notes on its fields."""
    text: str = schema().to_string(show_field_metadata=False, show_schema_metadata=False)
    return text + "\n"


def as_bigquery() -> str:
    """Return the schema of a BigQuery table as JSON, the form that `bq mk --schema` takes."""
    return _json([_bigquery_field(column) for column in COLUMNS])


def as_json_schema() -> str:
    """Return the JSON Schema (draft 2020-12) of an event as a line of NDJSON.

    Columns that are null may also be missing. Columns that it does not know are allowed, for version 1 may grow.
    """
    return _json(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:cfaudit:audit_event:v{SCHEMA_VERSION}",
            "title": f"Cloudflare audit event, version {SCHEMA_VERSION}",
            "type": "object",
            "properties": {column.name: _json_property(column) for column in COLUMNS},
            "required": [column.name for column in COLUMNS if column.required],
        }
    )


def files() -> dict[str, str]:
    """Return the generated files of `schemas/`, name to content."""
    return {
        f"audit_event.v{SCHEMA_VERSION}.json": as_json_schema(),
        f"audit_event.v{SCHEMA_VERSION}.bigquery.json": as_bigquery(),
        "README.md": _README.format(version=SCHEMA_VERSION, columns=as_markdown()),
    }


def require_growth(committed: str, columns: Sequence[Column] = COLUMNS) -> None:
    """Make sure that the columns are those of a committed JSON Schema of this version, or more at the end.

    Raises:
        ValueError: a column was removed, moved or retyped, a promise was changed, or a new one is never null.
    """
    document = json.loads(committed)
    then = list(document["properties"].items())
    for position, (name, described) in enumerate(then):
        now = columns[position] if position < len(columns) else None
        if now is None or now.name != name:
            raise ValueError(f"column '{name}' was removed or moved; that is a new version of the schema")
        if _without_words(_json_property(now)) != _without_words(described):
            raise ValueError(f"the type of column '{name}' was changed; that is a new version of the schema")
        if now.required != (name in document["required"]):
            raise ValueError(f"column '{name}' may no longer change whether it is null; that is a new version")
    for column in columns[len(then) :]:
        if column.required:
            raise ValueError(f"the new column '{column.name}' must be nullable, old rows do not have it")


def write(folder: Path) -> None:
    """Write the generated files into `folder`, unless the version that is there does not allow the change.

    Raises:
        ValueError: as `require_growth`; nothing was written.
    """
    committed = folder / f"audit_event.v{SCHEMA_VERSION}.json"
    if committed.exists():
        require_growth(committed.read_text(encoding="utf-8"))
    for name, content in files().items():
        (folder / name).write_text(content, encoding="utf-8")


def _bigquery_field(column: Column) -> dict[str, str]:
    return {
        "name": column.name,
        "type": _BIGQUERY_TYPES[column.kind],
        "mode": "REQUIRED" if column.required else "NULLABLE",
        "description": column.meaning,
    }


def _json_property(column: Column) -> dict[str, Any]:
    described = dict(_JSON_TYPES[column.kind])
    if not column.required:
        described["type"] = [described["type"], "null"]
    return {**described, "description": f"{column.meaning} From: {column.origin}."}


def _without_words(described: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in described.items() if key != "description"}


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the files of the folder schemas/ anew.")
    parser.add_argument("--write", type=Path, required=True, metavar="FOLDER")
    write(parser.parse_args().write)
