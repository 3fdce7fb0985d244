"""Small questions to a table of rows: where it starts and ends, what lies between two milliseconds."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.paging.page import TIME

NANOSECONDS = 1_000_000  # in a millisecond


def first_ms(rows: pa.Table) -> int:
    """Return the millisecond of the oldest row; the table is not empty."""
    return int(pc.min(rows["event_time"]).value // NANOSECONDS)


def last_ms(rows: pa.Table) -> int:
    """Return the millisecond of the newest row; the table is not empty."""
    return int(pc.max(rows["event_time"]).value // NANOSECONDS)


def whole_ms(rows: pa.Table) -> list[int]:
    """Return the whole milliseconds on which rows lie, each once, the last one first."""
    times = rows["event_time"].cast(pa.int64())
    milliseconds = pc.divide(times, NANOSECONDS)
    on_one = milliseconds.filter(pc.equal(pc.multiply(milliseconds, NANOSECONDS), times))
    return sorted(set(on_one.to_pylist()), reverse=True)


def between(rows: pa.Table, since_ms: int, before_ms: int) -> pa.Table:
    """Return the rows of `[since, before)`; of a table in order without copying any."""
    if not rows.num_rows or (first_ms(rows) >= since_ms and last_ms(rows) < before_ms):
        return rows
    since, before = (pa.scalar(at * NANOSECONDS, pa.int64()).cast(TIME) for at in (since_ms, before_ms))
    times = rows["event_time"]
    if _in_order(rows):
        first, end = (pc.sum(pc.less(times, at)).as_py() for at in (since, before))
        return rows.slice(first, max(end - first, 0))
    return rows.filter(pc.and_(pc.greater_equal(times, since), pc.less(times, before)))


def from_ms_on(rows: pa.Table, since_ms: int) -> pa.Table:
    """Return the rows from a millisecond on; a table that starts there is returned as it is."""
    if not rows.num_rows or first_ms(rows) >= since_ms:
        return rows
    return between(rows, since_ms, last_ms(rows) + 1)


def ascending(rows: pa.Table) -> pa.Table:
    """Return the rows by time; rows that are in order already are returned as they are."""
    return rows if _in_order(rows) else rows.sort_by("event_time")


def _in_order(rows: pa.Table) -> bool:
    times = rows["event_time"]
    return rows.num_rows < 2 or bool(pc.all(pc.less_equal(times[:-1], times[1:])).as_py())


def reversed_rows(rows: pa.Table) -> pa.Table:
    """Return the rows from the last to the first."""
    return rows.take(pa.array(range(rows.num_rows - 1, -1, -1), pa.int64()))


def is_ascending(rows: pa.Table) -> bool:
    """Say whether milliseconds never go back from row to row; finer than that, servers may order as they like."""
    if rows.num_rows < 2 or _in_order(rows):
        return True
    at = pc.divide(rows["event_time"].cast(pa.int64()), NANOSECONDS)
    return bool(pc.all(pc.less_equal(at[:-1], at[1:])).as_py())


def are_all(forward: pa.Table, backward: pa.Table) -> bool:
    """Say whether a page, read from the start on and read from the end on, shows that there is nothing else.

    With more rows than a page has, the two would begin with different ones. Rows of several milliseconds then differ in
    their times; rows of a single one can be told apart by their texts alone.
    """
    if not forward.num_rows or forward.num_rows != backward.num_rows:
        return False
    texts, others = forward["event_raw"].to_pylist(), backward["event_raw"].to_pylist()
    if first_ms(forward) != last_ms(forward):
        times, other_times = (
            ascending(rows)["event_time"].cast(pa.int64()).to_pylist() for rows in (forward, backward)
        )
        return times == other_times and sorted(texts) == sorted(others)
    return texts == others[::-1] and len(set(texts)) == len(texts)
