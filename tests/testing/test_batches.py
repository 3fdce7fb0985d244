from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cfaudit_export import Stream, read_batch
from cfaudit_export.schema import COLUMNS, schema
from cfaudit_export.testing import make_batch
from cfaudit_export.testing.batches import Shape


@pytest.mark.parametrize("shape", ["six-field", "whole"])
def test_a_batch_is_what_a_run_would_stage(tmp_path: Path, shape: Shape) -> None:
    batch = make_batch(tmp_path, rows=250, days=3, shape=shape)
    events = read_batch(batch)
    events.validate(full=True)
    assert events.schema.equals(schema(), check_metadata=True)
    assert events.num_rows == batch.rows == 250
    times = events["event_time"].to_pylist()
    assert times == sorted(times)
    assert batch.window.since <= times[0]
    assert times[-1] < batch.window.before
    assert {f"{time:%d}" for time in times} == {"01", "02", "03"}
    assert len(set(events["event_id"].to_pylist())) == 250
    assert all(not events[column.name].null_count for column in COLUMNS if column.required)
    assert batch.digest == hashlib.sha256(batch.path.read_bytes()).hexdigest()


def test_the_six_fields_leave_the_rest_null_and_stand_in_the_event(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=50)).to_pylist()
    for event in events:
        received = json.loads(event["event_raw"])
        assert received["description"] == event["action_description"]
        assert received.get("actor_email") == event["actor_email"]
        assert received.get("type") == event["resource_type"]
        assert received["time"] == f"{event['event_time']:%Y-%m-%dT%H:%M:%S.%f}Z"
        assert event["action_type"] is None


def test_a_whole_record_fills_every_column(tmp_path: Path) -> None:
    events = read_batch(make_batch(tmp_path, rows=200, shape="whole"))
    assert [name for name in events.column_names if events[name].null_count == 200] == ["replaces", "body_nonce"]
    for name in ("event_raw", "resource_request", "resource_response", "resource_value"):
        for text in events[name].to_pylist():
            json.loads(text)


def test_the_arguments_alone_decide_what_is_made(tmp_path: Path) -> None:
    first = make_batch(tmp_path, rows=20, seed=3)
    content = read_batch(first).to_pylist()
    assert read_batch(make_batch(tmp_path, rows=20, seed=3)).to_pylist() == content
    others = [
        make_batch(tmp_path, rows=20, seed=4),
        make_batch(tmp_path, rows=21, seed=3),
        make_batch(tmp_path, rows=20, seed=3, days=2),
        make_batch(tmp_path, rows=20, seed=3, stream=Stream("ff" * 16, "auditlogs")),
    ]
    assert len({first.batch_id, *(batch.batch_id for batch in others)}) == 5
    ids = set(read_batch(first)["event_id"].to_pylist())
    assert all(ids.isdisjoint(read_batch(batch)["event_id"].to_pylist()) for batch in others)


def test_columns_can_be_given(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=2, changes={"action_description": ["", None], "raw_status_code": [200, 404]})
    events = read_batch(batch)
    assert events["action_description"].to_pylist() == ["", None]
    assert events["raw_status_code"].to_pylist() == [200, 404]
