from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export import read_batch
from cfaudit_export.parquet import StagedEvents, read_notes, write_parquet
from cfaudit_export.testing import make_batch

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANTS = st.lists(st.timedeltas(timedelta(days=-3), timedelta(days=3)).map(EPOCH.__add__), min_size=1, max_size=40)


def stage(path: Path, events: pa.Table, chunk_rows: int) -> str:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, events.schema) as writer:
        writer.write_table(events, max_chunksize=chunk_rows)
    return str(path)


def numbered(instants: list[datetime]) -> pa.Table:
    times = pa.array(instants, pa.timestamp("us", "UTC"))
    return pa.table({"event_id": [str(number) for number in range(len(instants))], "event_time": times})


@settings(deadline=None, max_examples=80)
@given(instants=st.one_of(INSTANTS, INSTANTS.map(sorted)), chunk_rows=st.integers(1, 50))
def test_every_event_is_given_once_on_its_own_day_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, instants: list[datetime], chunk_rows: int
) -> None:
    expected = sorted(numbered(instants).to_pylist(), key=lambda event: event["event_time"])  # stable
    path = stage(tmp_path_factory.getbasetemp() / "numbered.arrow", numbered(instants), chunk_rows)
    given_events = []
    with StagedEvents(path) as events:
        for day, groups in events.by_day():
            of_the_day = [event for group in groups for event in group.to_pylist()]
            assert {f"{event['event_time']:%Y-%m-%d}" for event in of_the_day} == {day}
            assert len(of_the_day) == events.days[day]
            given_events += of_the_day
        assert list(events.days) == sorted(events.days)
    assert given_events == expected


def test_a_day_that_is_not_taken_is_skipped(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=30, days=3)
    with StagedEvents(str(batch.path)) as events:
        taken = {day: sum(group.num_rows for group in groups) for day, groups in events.by_day() if day != "2026-11-02"}
    assert taken == {"2026-11-01": 10, "2026-11-03": 10}


@pytest.mark.parametrize("chunk_rows", [1_000, 200_000])
def test_a_row_group_has_about_fifty_thousand_events(tmp_path: Path, chunk_rows: int) -> None:
    table = read_batch(make_batch(tmp_path, rows=120_000))
    metadata = written(stage(tmp_path / "chunks.arrow", table, chunk_rows)).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [50_000, 50_000, 20_000]


def test_large_events_make_smaller_row_groups(tmp_path: Path) -> None:
    table = read_batch(make_batch(tmp_path, rows=400, changes={"event_raw": ["x" * 200_000] * 400}))
    metadata = written(stage(tmp_path / "chunks.arrow", table, 20)).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [180, 180, 40]


def written(staged: str) -> pq.ParquetFile:
    file = io.BytesIO()
    with StagedEvents(staged) as events:
        for _, groups in events.by_day():
            write_parquet(file, events.schema, groups, {"note": "é"})
    return pq.ParquetFile(file)


def column_of(file: pq.ParquetFile, name: str) -> Any:
    return file.metadata.row_group(0).column(file.schema_arrow.get_field_index(name))


def test_the_format_is_what_it_promises(tmp_path: Path) -> None:
    file = written(str(make_batch(tmp_path, rows=2_000, shape="whole").path))
    assert {file.metadata.row_group(0).column(n).compression for n in range(file.metadata.num_columns)} == {"ZSTD"}
    assert [sorting.column_index for sorting in file.metadata.row_group(0).sorting_columns] == [2]
    for name in ("account_id", "action_type", "actor_email", "zone_name"):
        assert column_of(file, name).has_dictionary_page
        assert column_of(file, name).statistics.has_min_max
        assert column_of(file, name).has_column_index
    for name in ("event_raw", "resource_request", "resource_response"):
        assert not column_of(file, name).has_dictionary_page
        assert not column_of(file, name).is_stats_set
    assert column_of(file, "event_id").statistics.has_min_max
    assert b"ARROW:schema" not in file.metadata.metadata


def test_notes_are_read_back(tmp_path: Path) -> None:
    table = read_batch(make_batch(tmp_path, rows=1))
    path = tmp_path / "one.parquet"
    with path.open("wb") as file:
        write_parquet(file, table.schema, [table], {"days": '{"a": 1}', "word": "żółw"})
    assert read_notes(str(path)) == {"days": '{"a": 1}', "word": "żółw"}


def test_a_file_of_few_events_is_small(tmp_path: Path) -> None:
    assert len(written_bytes(tmp_path)) < 20_000


def written_bytes(tmp_path: Path) -> bytes:
    file = io.BytesIO()
    table = read_batch(make_batch(tmp_path, rows=5))
    write_parquet(file, table.schema, [table], {})
    return file.getvalue()
