"""What a destination has stored against what it was given: for the suite of sinks."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export import Batch, Receipt, read_batch
from cfaudit_export.schema import COLUMNS, schema


def accepted(batch: Batch, receipt: Receipt) -> pa.Table:
    """Return the events of a batch but for what a receipt says was rejected."""
    assert receipt.batch_id == batch.batch_id
    assert receipt.rows + len(receipt.rejected) == batch.rows
    rejected = pa.array([rejected.event_id for rejected in receipt.rejected], pa.string())
    events = read_batch(batch)
    return events.filter(pc.invert(pc.is_in(events["event_id"], rejected)))


def without_repetition(events: pa.Table) -> pa.Table:
    """Return the first of each event."""
    first = {event_id: row for row, event_id in reversed(list(enumerate(events["event_id"].to_pylist())))}
    return events.take(pa.array(list(first.values()), pa.int64()))


def nullable() -> pa.Schema:
    """Return the schema without its promises and notes, which a destination need not give back."""
    return pa.schema([pa.field(field.name, field.type) for field in schema()])


def assert_same(stored: pa.Table, expected: pa.Table) -> None:
    """Assert that the same events are there, column for column; both sorted by `event_id`."""
    assert stored["event_id"].to_pylist() == expected["event_id"].to_pylist(), "events are missing, strange or repeated"
    for column in COLUMNS:
        if stored[column.name].equals(expected[column.name]):
            continue
        kept, given = stored[column.name].to_pylist(), expected[column.name].to_pylist()
        if column.kind == "json":  # a destination may keep the value and not its spelling
            kept, given = _parsed(kept), _parsed(given)
        assert kept == given, f"column '{column.name}' differs"


def _parsed(texts: list[str | None]) -> list[Any]:
    return [None if text is None else json.loads(text) for text in texts]
