"""The table: how it is made, how it grows, and which one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Batch, SinkError, SinkRefusedError
from cfaudit_export.schema_formats import as_bigquery
from cfaudit_export.testing.batches import make_batch

FIELDS: list[dict[str, str]] = json.loads(as_bigquery())


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return make_batch(tmp_path, rows=5)


def changed(name: str, **changes: str) -> list[dict[str, str]]:
    return [{**field, **changes} if field["name"] == name else field for field in FIELDS]


def test_a_table_is_made_from_the_schema(standin: Any, batch: Batch) -> None:
    standin.sink(labels={"team": "security"}, partition_expiry_days=400).load(batch)
    table = standin.tables()["proj.audit.events"]
    assert table["schema"]["fields"] == FIELDS
    assert table["timePartitioning"] == {"type": "DAY", "field": "event_time", "expirationMs": str(400 * 86_400_000)}
    assert table["clustering"] == {"fields": ["account_id", "action_type", "actor_email"]}
    assert table["labels"] == {"team": "security"}
    assert table["description"]


def test_json_columns_are_json(standin: Any, batch: Batch) -> None:
    standin.sink().load(batch)
    types = {field["name"]: field["type"] for field in standin.tables()["proj.audit.events"]["schema"]["fields"]}
    assert {name for name, kind in types.items() if kind == "JSON"} == {
        "resource_request",
        "resource_response",
        "resource_value",
        "event_raw",
    }


def test_a_missing_table_is_not_made_where_that_is_not_wanted(standin: Any, batch: Batch) -> None:
    sink = standin.sink(create=False)
    for ask in (sink.check, lambda: sink.load(batch)):
        with pytest.raises(SinkRefusedError, match="'proj.audit.events' does not exist; .*create = true"):
            ask()
    assert standin.tables() == {}


def test_a_table_grows_by_the_columns_it_lacks(standin: Any, tmp_path: Path) -> None:
    own = {"name": "reviewed_by", "type": "STRING", "mode": "NULLABLE"}
    standin.make_table([*FIELDS[:-2], own])
    batches = [make_batch(tmp_path, rows=5, seed=seed) for seed in (1, 2)]
    assert "columns fit" in standin.sink().check()
    for batch in batches:
        standin.sink().load(batch)
    fields = standin.tables()["proj.audit.events"]["schema"]["fields"]
    assert fields == [*FIELDS[:-2], own, *FIELDS[-2:]]
    assert standin.rows().num_rows == 10
    assert standin.rows()["event_raw"].null_count == 0


def test_a_column_that_is_never_null_is_added_as_one_that_may_be(standin: Any, batch: Batch) -> None:
    standin.make_table([field for field in FIELDS if field["name"] != "source"])
    standin.sink().load(batch)
    added = standin.tables()["proj.audit.events"]["schema"]["fields"][-1]
    assert (added["name"], added["mode"]) == ("source", "NULLABLE")


def test_a_table_does_not_grow_where_that_is_not_wanted(standin: Any, batch: Batch) -> None:
    standin.make_table(FIELDS[:-2])
    sink = standin.sink(create=False)
    for ask in (sink.check, lambda: sink.load(batch)):
        with pytest.raises(SinkRefusedError, match="lacks the columns batch_id, body_nonce; .*create = true"):
            ask()
    assert standin.tables()["proj.audit.events"]["schema"]["fields"] == FIELDS[:-2]


def test_the_right_to_add_columns_is_asked_for_where_columns_are_missing(standin: Any) -> None:
    standin.make_table(FIELDS[:-1])
    standin.say("settings", denied=["bigquery.tables.update"])
    with pytest.raises(SinkRefusedError, match=r"missing permissions bigquery\.tables\.update"):
        standin.sink().check()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (changed("event_raw", type="STRING"), "column 'event_raw' is STRING, not JSON"),
        (changed("event_time", type="STRING"), "column 'event_time' is STRING, not TIMESTAMP"),
        (changed("zone_id", mode="REQUIRED"), "column 'zone_id' is REQUIRED, and not every event has it"),
        (changed("zone_id", mode="REPEATED"), "column 'zone_id' is REPEATED"),
        (changed("zone_name", maxLength="40"), "column 'zone_name' holds 40 characters at most"),
        (
            [*FIELDS, {"name": "tenant", "type": "STRING", "mode": "REQUIRED"}],
            "column 'tenant' is REQUIRED, and events do not have it",
        ),
    ],
)
def test_a_table_that_cannot_hold_events_is_refused_with_what_differs(
    standin: Any, batch: Batch, fields: list[dict[str, str]], words: str
) -> None:
    standin.make_table(fields)
    for ask in (lambda sink: sink.check(), lambda sink: sink.load(batch)):
        with pytest.raises(SinkRefusedError, match=f"'proj.audit.events' does not fit: {words}; name another table"):
            ask(standin.sink())
    assert standin.rows().num_rows == 0


def test_a_table_that_holds_more_than_events_need_is_taken(standin: Any, batch: Batch) -> None:
    wider = [{**field, "mode": "NULLABLE", "name": field["name"].upper()} for field in FIELDS]
    standin.make_table(wider)
    standin.sink().load(batch)
    assert standin.rows().num_rows == 5
    assert standin.tables()["proj.audit.events"]["schema"]["fields"] == wider


def test_a_view_is_no_table(standin: Any, batch: Batch) -> None:
    standin.make_table(FIELDS, override={"type": "VIEW"})
    with pytest.raises(SinkRefusedError, match="is a VIEW, not a table"):
        standin.sink().load(batch)


def test_another_location_than_the_settings_say_is_refused(standin: Any, batch: Batch) -> None:
    standin.make_table(FIELDS)
    with pytest.raises(SinkRefusedError, match="is in 'EU', not in 'US'; correct location"):
        standin.sink(location="US").load(batch)


def test_who_comes_second_takes_the_table_that_the_first_has_made(standin: Any, batch: Batch) -> None:
    standin.fault("POST", r"/tables\b", "lie", status=409, reason="duplicate")
    standin.sink().load(batch)
    assert standin.rows().num_rows == 5


def test_a_table_that_changed_meanwhile_is_looked_at_again(standin: Any, batch: Batch) -> None:
    standin.make_table(FIELDS[:-1])
    standin.fault("PATCH", "/tables/", "lie", status=412, reason="conditionNotMet")
    standin.sink().load(batch)
    assert standin.tables()["proj.audit.events"]["schema"]["fields"] == FIELDS
    assert len(standin.requests("PATCH")) == 1


def test_a_table_that_never_stays_the_same_is_left_alone(standin: Any, batch: Batch) -> None:
    standin.make_table(FIELDS[:-1])
    standin.fault("PATCH", "/tables/", "refuse", status=412, reason="conditionNotMet", times=100)
    with pytest.raises(SinkError, match="is being changed by others"):
        standin.sink().load(batch)


@pytest.mark.parametrize("mode", [{}, {"merge": True}], ids=["append", "merge"])
def test_check_changes_nothing(standin: Any, mode: dict[str, bool]) -> None:
    for fields in ([], FIELDS[:-1]):
        if fields:
            standin.make_table(fields)
        before = standin.tables()
        assert standin.sink(**mode).check().startswith("can ")
        assert standin.tables() == before
        assert standin.jobs() == {}
