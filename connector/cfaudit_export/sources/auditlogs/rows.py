"""Small questions to a table of rows: where it starts and ends, what lies between two milliseconds."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.auditlogs.decode import TIME

_NANOSECONDS = 1_000_000  # in a millisecond


def first_ms(rows: pa.Table) -> int:
    """Return the millisecond of the oldest row; the table is not empty."""
    return int(pc.min(rows["event_time"]).value // _NANOSECONDS)


def last_ms(rows: pa.Table) -> int:
    """Return the millisecond of the newest row; the table is not empty."""
    return int(pc.max(rows["event_time"]).value // _NANOSECONDS)


def last_whole_ms(rows: pa.Table) -> int | None:
    """Return the last whole millisecond on which a row lies, None if there is none."""
    times = rows["event_time"].cast(pa.int64())
    milliseconds = pc.divide(times, _NANOSECONDS)
    at_ms: int | None = pc.max(milliseconds.filter(pc.equal(pc.multiply(milliseconds, _NANOSECONDS), times))).as_py()
    return at_ms


def between(rows: pa.Table, since_ms: int, before_ms: int) -> pa.Table:
    """Return the rows of `[since, before)`; of a table in order without copying any."""
    if not rows.num_rows or (first_ms(rows) >= since_ms and last_ms(rows) < before_ms):
        return rows
    since, before = (pa.scalar(at * _NANOSECONDS, pa.int64()).cast(TIME) for at in (since_ms, before_ms))
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
