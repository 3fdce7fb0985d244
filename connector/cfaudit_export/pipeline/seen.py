"""Keys of delivered events, packed by hour: 96 bits of each key in base64, sixteen characters an event.

Kept for the rescan horizon only, so that latecomers can be told from events that a sink has. With a million events
in the horizon, two of them agree in 96 bits with a probability below 10 to the minus 17.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

_PACKED = 16
_HEX = 24


def unseen(table: pa.Table, seen: Mapping[str, str]) -> pa.Table:
    """Return the events whose key is not among the packed ones."""
    if not seen or not table.num_rows:
        return table
    known = {text[at : at + _PACKED] for text in seen.values() for at in range(0, len(text), _PACKED)}
    fresh = pc.invert(pc.is_in(_pack(table["event_key"]), value_set=pa.array(sorted(known), pa.string())))
    return table.filter(fresh)


def pack(table: pa.Table, since: datetime) -> dict[str, str]:
    """Return the packed keys, by hour, of the events from `since` on."""
    recent = table.filter(pc.greater_equal(table["event_time"], pa.scalar(since, table["event_time"].type)))
    if not recent.num_rows:
        return {}
    packed = _pack(recent["event_key"])
    hours = pc.strftime(recent["event_time"], format="%Y-%m-%dT%H")
    by_hour = pa.table({"hour": hours, "key": packed}).group_by("hour").aggregate([("key", "list")])
    return {
        hour: "".join(keys)
        for hour, keys in zip(by_hour["hour"].to_pylist(), by_hour["key_list"].to_pylist(), strict=True)
    }


def merge(seen: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return both together, ascending by hour."""
    return {hour: seen.get(hour, "") + more.get(hour, "") for hour in sorted({*seen, *more})}


def forget(seen: Mapping[str, str], before: datetime) -> dict[str, str]:
    """Return what is left without the hours that end before."""
    first = f"{before:%Y-%m-%dT%H}"
    return {hour: keys for hour, keys in seen.items() if hour >= first}


def _pack(keys: pa.ChunkedArray) -> pa.Array:
    prefixes = "".join(pc.utf8_slice_codeunits(keys, 0, _HEX).to_pylist())
    text = b64encode(bytes.fromhex(prefixes))
    offsets = pa.array(range(0, len(text) + _PACKED, _PACKED), pa.int32())
    return pa.StringArray.from_buffers(len(keys), offsets.buffers()[1], pa.py_buffer(text))
