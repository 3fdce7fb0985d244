from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from cfaudit_export import read_batch, schema_formats
from cfaudit_export.schema import COLUMNS, schema
from cfaudit_export.testing import make_batch

NAMES = [column.name for column in COLUMNS]


def test_the_table_fits_a_terminal_and_has_every_column_and_word() -> None:
    table = schema_formats.as_table()
    assert max(map(len, table.splitlines())) <= 80
    assert [line.split()[0].rstrip("*") for line in table.splitlines()[1:] if not line.startswith(" ")] == NAMES
    assert [line.split()[0].removesuffix("*") for line in table.splitlines()[1:] if "*" in line.split()[0]] == [
        column.name for column in COLUMNS if column.required
    ]
    words = " ".join(table.split())
    assert all(word in words for column in COLUMNS for word in column.meaning.split())


def test_the_markdown_table_has_a_row_for_every_column() -> None:
    lines = schema_formats.as_markdown().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == NAMES
    assert {line.count("|") for line in lines} == {6}


def test_the_arrow_text_is_that_of_the_schema() -> None:
    lines = schema_formats.as_arrow().splitlines()
    assert lines == [f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in schema()]


def test_bigquery_gets_json_columns_for_json_texts_and_promises_for_required_ones() -> None:
    fields = json.loads(schema_formats.as_bigquery())
    assert [field["name"] for field in fields] == NAMES
    types = {field["name"]: field["type"] for field in fields}
    assert (types["event_id"], types["event_time"], types["raw_status_code"]) == ("STRING", "TIMESTAMP", "INTEGER")
    assert {name for name, kind in types.items() if kind == "JSON"} == {
        "resource_request",
        "resource_response",
        "resource_value",
        "event_raw",
    }
    assert {field["name"] for field in fields if field["mode"] == "REQUIRED"} == {
        column.name for column in COLUMNS if column.required
    }
    assert all(field["description"] for field in fields)


def ndjson_row(tmp_path: Path, shape: Any) -> dict[str, Any]:
    event = read_batch(make_batch(tmp_path, rows=1, shape=shape)).to_pylist()[0]
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in event.items()}


@pytest.fixture
def validator() -> Draft202012Validator:
    document = json.loads(schema_formats.as_json_schema())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document, format_checker=Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("shape", ["six-field", "whole"])
def test_the_json_schema_accepts_an_event_with_and_without_its_nulls(
    tmp_path: Path, shape: str, validator: Draft202012Validator
) -> None:
    row = ndjson_row(tmp_path, shape)
    validator.validate(row)
    validator.validate({name: value for name, value in row.items() if value is not None})
    validator.validate({**row, "a column of a later day": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": None},
        {"event_time": "yesterday"},
        {"raw_status_code": "200"},
        {"raw_status_code": 2**31},
        {"event_raw": {"parsed": True}},
        {"actor_email": 7},
    ],
    ids=str,
)
def test_the_json_schema_rejects_what_the_schema_does_not_hold(
    tmp_path: Path, change: dict[str, Any], validator: Draft202012Validator
) -> None:
    with pytest.raises(ValidationError):
        validator.validate({**ndjson_row(tmp_path, "whole"), **change})


@pytest.mark.parametrize("name", [column.name for column in COLUMNS if column.required])
def test_the_json_schema_demands_what_is_never_null(tmp_path: Path, name: str, validator: Draft202012Validator) -> None:
    row = ndjson_row(tmp_path, "whole")
    del row[name]
    with pytest.raises(ValidationError, match=name):
        validator.validate(row)


def test_the_module_writes_the_files_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cfaudit_export.schema_formats", "--write", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("", "")
    assert {path.name for path in tmp_path.iterdir()} == schema_formats.files().keys()
