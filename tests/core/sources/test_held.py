"""What a walk holds: its counts are those of the rows, whatever was added, dropped and taken."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.auditlogs.held import Held

TIMES = st.lists(st.integers(0, 20), max_size=6).map(sorted)


def table(times_ms: list[int]) -> pa.Table:
    columns: dict[str, list[object]] = {name: [None] * len(times_ms) for name in PAGE_SCHEMA.names}
    columns["event_time"] = [at * 1_000_000 for at in times_ms]
    columns["event_raw"] = [f'{{"at":{at}}}' for at in times_ms]
    return pa.table(columns, schema=PAGE_SCHEMA)


def milliseconds(rows: pa.Table) -> list[int]:
    return [at.value // 1_000_000 for at in rows["event_time"]]


@given(st.lists(TIMES, max_size=5), st.integers(0, 21), st.integers(0, 21))
def test_what_is_held_is_counted_and_taken_by_time(tables: list[list[int]], dropped_from: int, cut_at: int) -> None:
    held = Held()
    for times in tables:
        held.add(table(times))

    held.drop_from(dropped_from)
    kept = [at for times in tables for at in times if at < dropped_from]
    assert (held.rows, held.newest_ms) == (len(kept), max(kept, default=None))

    taken = held.take(PAGE_SCHEMA, 0, cut_at, 21)
    rest = [at for at in kept if at >= cut_at]
    assert milliseconds(taken) == [at for at in kept if at < cut_at]
    assert (held.rows, held.newest_ms) == (len(rest), max(rest, default=None))
    assert (held.last is None) == (held.bytes == 0) == (not rest)
