"""What a sink remembers of the events that it has (`Seen`): made, merged, forgotten, and compared with what is read."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.intervals import subtract, union
from cfaudit_export.core.model import Seen, SeenWindow, Window

_MICROSECONDS = pa.timestamp("us", tz="UTC")
_PACKED = 16
_HEX = 24


def unseen(table: pa.Table, seen: Seen) -> pa.Table:
    """Return the events whose key is not among those that are remembered of their time."""
    if seen == Seen() or not table.num_rows:
        return table
    first, last = (at.as_py() for at in pc.min_max(table["event_time"]).values())
    hours = [keys for hour, keys in seen.hours.items() if _hour(first) <= hour <= _hour(last)]
    windows = [
        one.keys
        for one in (*seen.gaps, *seen.refilled)
        if _floor_hour(one.window.since) <= last and one.window.before >= _floor_hour(first)
    ]
    known = "".join((*hours, *windows))
    return table.filter(pc.invert(pc.is_in(_pack(table["event_key"]), value_set=_split(known.encode()))))


def pack(table: pa.Table, since: datetime) -> Seen:
    """Return the packed keys, by hour, of the events from `since` on."""
    recent = table.filter(pc.greater_equal(table["event_time"], pa.scalar(since, table["event_time"].type)))
    if not recent.num_rows:
        return Seen()
    packed = _pack(recent["event_key"])
    hours = pc.strftime(recent["event_time"], format="%Y-%m-%dT%H")
    by_hour = pa.table({"hour": hours, "key": packed}).group_by("hour").aggregate([("key", "list")])
    named = zip(by_hour["hour"].to_pylist(), by_hour["key_list"].to_pylist(), strict=True)
    return Seen({hour: "".join(keys) for hour, keys in named})


def pack_windows(table: pa.Table, windows: Iterable[Window]) -> tuple[SeenWindow, ...]:
    """Return the packed keys of the events in each of the windows."""
    return tuple(SeenWindow(one, "".join(_pack(within(table, [one])["event_key"]).to_pylist())) for one in windows)


def merge(seen: Seen, more: Seen) -> Seen:
    """Return both together: the keys of an hour add up, those of a window are replaced."""
    hours = {hour: seen.hours.get(hour, "") + keys for hour, keys in more.hours.items()}
    return Seen(
        dict(sorted({**seen.hours, **hours}.items())),
        _replaced(seen.gaps, more.gaps),
        _replaced(seen.refilled, more.refilled),
    )


def forget(seen: Seen, before: datetime) -> Seen:
    """Return what is left without the hours, and the refilled windows, that end before; gaps stay."""
    return replace(
        seen,
        hours={hour: keys for hour, keys in seen.hours.items() if hour >= _hour(before)},
        refilled=tuple(one for one in seen.refilled if one.window.before >= _floor_hour(before)),
    )


def close_gaps(seen: Seen, window: Window) -> Seen:
    """Return what is left when a window was read again: gaps in it are over, those that reach beyond it are cut."""
    left = (replace(one, window=rest) for one in seen.gaps for rest in subtract([one.window], [window]))
    return replace(seen, gaps=_replaced((), left))


def gap_windows(seen: Seen) -> tuple[Window, ...]:
    """Return the windows in which the sink lacks something that could not be read."""
    return union(*(one.window for one in seen.gaps))


def split(keys: str) -> set[str]:
    """Return packed keys one by one."""
    return {keys[start : start + _PACKED] for start in range(0, len(keys), _PACKED)}


def packed(key: str) -> str:
    """Return one key packed."""
    return b64encode(bytes.fromhex(key[:_HEX])).decode()


def within(table: pa.Table, windows: Iterable[Window]) -> pa.Table:
    """Return the rows whose time lies in one of the windows; a table that lies in one is returned as it is."""
    windows = tuple(windows)
    if not table.num_rows or not windows:
        return table.slice(0, 0)
    times = table["event_time"]
    # Times of a source may be finer than a datetime can be.
    first, last = (at.cast(_MICROSECONDS, safe=False).as_py() for at in pc.min_max(times).values())
    if any(window.since <= first and last < window.before for window in windows):
        return table
    inside = pa.repeat(pa.scalar(value=False), table.num_rows)
    for window in windows:
        since, before = (pa.scalar(at, times.type) for at in (window.since, window.before))
        inside = pc.or_(inside, pc.and_(pc.greater_equal(times, since), pc.less(times, before)))
    return table.filter(inside)


def _replaced(one: Iterable[SeenWindow], other: Iterable[SeenWindow]) -> tuple[SeenWindow, ...]:
    """Return the entries of both, ascending; of a window that both have, that of the other."""
    by_window = {entry.window: entry for entry in (*one, *other)}
    return tuple(by_window[window] for window in sorted(by_window))


def _hour(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H}"


def _floor_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _pack(keys: pa.ChunkedArray) -> pa.Array:
    prefixes = "".join(pc.utf8_slice_codeunits(keys, 0, _HEX).to_pylist())
    return _split(b64encode(bytes.fromhex(prefixes)))


def _split(text: bytes) -> pa.Array:
    """Return the packed keys in a text, without a Python object for each."""
    offsets = pa.array(range(0, len(text) + _PACKED, _PACKED), pa.int32())
    return pa.StringArray.from_buffers(len(text) // _PACKED, offsets.buffers()[1], pa.py_buffer(text))
