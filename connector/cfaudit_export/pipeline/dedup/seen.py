"""Keys of delivered events: 96 bits of each key in base64, sixteen characters an event, in three sorts of entries.

An hour, `2026-11-24T02`, holds the keys of its events; hours are kept for the rescan horizon, so that latecomers can
be told from events that a sink has. With a million events in the horizon, two of them agree in 96 bits with a
probability below 10 to the minus 17.

A gap, `2026-11-24T02:13:05.123Z/2026-11-24T02:13:05.124Z`, holds the keys of what could be read in its window; it is
kept as long as the sink lacks the rest. The entry is there even without keys: it is how a sink knows that it lacks
something, however old, and after whichever sink the gap was healed for.

The third sort is that of `refilled`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.intervals import subtract, union
from cfaudit_export.core.model import Window

_PACKED = 16
_HEX = 24
_HOUR = len("2026-11-24T02")


def unseen(table: pa.Table, seen: Mapping[str, str]) -> pa.Table:
    """Return the events whose key is not among the packed ones."""
    if not seen or not table.num_rows:
        return table
    first, last = (f"{at.as_py():%Y-%m-%dT%H}" for at in pc.min_max(table["event_time"]).values())
    known = "".join(
        keys for name, keys in seen.items() if name[:_HOUR] <= last and name.rpartition("/")[2][:_HOUR] >= first
    )
    return table.filter(pc.invert(pc.is_in(_pack(table["event_key"]), value_set=_split(known.encode()))))


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


def pack_gaps(table: pa.Table, gaps: Iterable[Window]) -> dict[str, str]:
    """Return the packed keys of the events that could be read in the windows of gaps, by gap."""
    return {str(gap): "".join(_pack(within(table, [gap])["event_key"]).to_pylist()) for gap in gaps}


def merge(seen: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return both together: the keys of an hour add up, those of a window are replaced."""
    added = {name: seen.get(name, "") + keys if len(name) == _HOUR else keys for name, keys in more.items()}
    return dict(sorted({**seen, **added}.items()))


def forget(seen: Mapping[str, str], before: datetime) -> dict[str, str]:
    """Return what is left without the hours, and the filled windows, that end before; gaps stay."""
    first = f"{before:%Y-%m-%dT%H}"
    return {name: keys for name, keys in seen.items() if name.rpartition("=")[2] >= first or _is_gap(name)}


def close_gaps(seen: Mapping[str, str], window: Window) -> dict[str, str]:
    """Return what is left when a window was read again: gaps in it are over, those that reach beyond it are cut."""
    left: dict[str, str] = {}
    for name, keys in seen.items():
        rest = [name] if not _is_gap(name) else map(str, subtract([_window(name)], [window]))
        left.update(dict.fromkeys(rest, keys))
    return left


def gap_keys(seen: Mapping[str, str]) -> Iterator[tuple[Window, set[str]]]:
    """Yield each gap with the packed keys of what could be read in it."""
    for name, keys in seen.items():
        if _is_gap(name):
            yield _window(name), split(keys)


def split(keys: str) -> set[str]:
    """Return packed keys one by one."""
    return {keys[start : start + _PACKED] for start in range(0, len(keys), _PACKED)}


def packed(key: str) -> str:
    """Return one key packed."""
    return b64encode(bytes.fromhex(key[:_HEX])).decode()


def gap_windows(seen: Mapping[str, str]) -> tuple[Window, ...]:
    """Return the windows in which the sink lacks something that could not be read."""
    return union(*(_window(name) for name in seen if _is_gap(name)))


def within(table: pa.Table, windows: Iterable[Window]) -> pa.Table:
    """Return the rows whose time lies in one of the windows; a table that lies in one is returned as it is."""
    windows = tuple(windows)
    if not table.num_rows or not windows:
        return table.slice(0, 0)
    times = table["event_time"]
    first, last = (at.as_py() for at in pc.min_max(times).values())
    if any(window.since <= first and last < window.before for window in windows):
        return table
    inside = pa.repeat(pa.scalar(value=False), table.num_rows)
    for window in windows:
        since, before = (pa.scalar(at, times.type) for at in (window.since, window.before))
        inside = pc.or_(inside, pc.and_(pc.greater_equal(times, since), pc.less(times, before)))
    return table.filter(inside)


def _is_gap(name: str) -> bool:
    return "/" in name


def _window(name: str) -> Window:
    since, before = map(datetime.fromisoformat, name.split("/"))
    return Window(since, before)


def _pack(keys: pa.ChunkedArray) -> pa.Array:
    prefixes = "".join(pc.utf8_slice_codeunits(keys, 0, _HEX).to_pylist())
    return _split(b64encode(bytes.fromhex(prefixes)))


def _split(text: bytes) -> pa.Array:
    """Return the packed keys in a text, without a Python object for each."""
    offsets = pa.array(range(0, len(text) + _PACKED, _PACKED), pa.int32())
    return pa.StringArray.from_buffers(len(text) // _PACKED, offsets.buffers()[1], pa.py_buffer(text))
