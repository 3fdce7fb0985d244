from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cfaudit_export import schema_formats
from cfaudit_export.schema import COLUMNS, Column

SCHEMAS = Path(__file__).parents[2] / "schemas"
VERSION_1 = (SCHEMAS / "audit_event.v1.json").read_text(encoding="utf-8")
SAMPLES = sorted((SCHEMAS / "samples").glob("*.json"))
NEW = Column("extra", "string", "extra", "Something new.")


@pytest.mark.parametrize("name", schema_formats.files())
def test_the_committed_file_is_the_generated_one(name: str) -> None:
    committed = (SCHEMAS / name).read_text(encoding="utf-8")
    assert committed == schema_formats.files()[name], "run: python -m cfaudit_export.schema_formats --write schemas/"


def test_nothing_is_committed_that_is_not_generated() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == {*schema_formats.files(), "samples"}


def test_version_1_has_only_grown() -> None:
    schema_formats.require_growth(VERSION_1)
    schema_formats.require_growth(VERSION_1, [*COLUMNS, NEW])


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (COLUMNS[:-1], "'body_nonce' was removed or moved"),
        (COLUMNS[1:], "'event_id' was removed or moved"),
        ((*COLUMNS[:4], NEW, *COLUMNS[4:]), "'account_name' was removed or moved"),
        ((COLUMNS[1], COLUMNS[0], *COLUMNS[2:]), "'event_id' was removed or moved"),
        ((replace(COLUMNS[0], kind="int32"), *COLUMNS[1:]), "type of column 'event_id'"),
        ((*COLUMNS[:-1], replace(COLUMNS[-1], kind="json")), "type of column 'body_nonce'"),
        ((*COLUMNS[:-1], replace(COLUMNS[-1], required=True)), "'body_nonce'"),
        ((replace(COLUMNS[0], required=False), *COLUMNS[1:]), "'event_id'"),
        ((*COLUMNS, replace(NEW, required=True)), "new column 'extra' must be nullable"),
    ],
)
def test_any_other_change_to_version_1_is_refused(columns: tuple[Column, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        schema_formats.require_growth(VERSION_1, columns)


def test_the_generator_does_not_overwrite_a_version_with_a_change_it_forbids(tmp_path: Path) -> None:
    document = json.loads(VERSION_1)
    document["properties"]["zzz"] = {"type": ["string", "null"]}
    (tmp_path / "audit_event.v1.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="'zzz' was removed"):
        schema_formats.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["audit_event.v1.json"]


def test_the_generator_writes_every_file(tmp_path: Path) -> None:
    schema_formats.write(tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == schema_formats.files()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_says_what_was_received_from_where_and_when(path: Path) -> None:
    sample = json.loads(path.read_text(encoding="utf-8"))
    assert sample.keys() - {"row"} == {"title", "source", "account", "read_at", "received"}
    assert sample["account"].keys() == {"id", "name"}
    fields = {"description", "time", "actor_email", "actor_token_name", "product", "type"}
    if sample["source"] == "auditlogs":
        assert sample["received"].keys() <= fields
    else:
        assert {"id", "account", "action", "actor", "raw", "resource"} <= sample["received"].keys()
    if "row" in sample:
        Draft202012Validator(json.loads(VERSION_1)).validate(sample["row"])


def test_the_samples_have_the_six_fields_and_both_shapes_of_a_token() -> None:
    received: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf-8"))["received"] for path in SAMPLES]
    actors = [event.get("actor", {}) for event in received]
    assert any("description" in event for event in received)
    assert any("token" in actor for actor in actors)
    assert any("token_id" in actor for actor in actors)
