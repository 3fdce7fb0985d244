"""Batch -> what each of its days holds, in a few bytes: enough to tell our object from a stranger's."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export import Batch, read_batch


def digests_by_day(batch: Batch) -> dict[str, str]:
    """Return for each UTC day, by `YYYY-MM-DD`, the SHA-256 over the sorted ids of its events, hex.

    Over the ids and nothing else: who reads the same events again reads them at another time, and perhaps knows more
    of them, and the object that is there already still has every one of them exactly once.
    """
    events = read_batch(batch).select(["event_id", "event_time"])
    days = events["event_time"].cast(pa.date32())
    digests = {}
    for day in sorted(pc.unique(days).to_pylist()):
        ids = events["event_id"].filter(pc.equal(days, pa.scalar(day, pa.date32())))
        digests[day.isoformat()] = hashlib.sha256("\n".join(sorted(ids.to_pylist())).encode()).hexdigest()
    return digests
