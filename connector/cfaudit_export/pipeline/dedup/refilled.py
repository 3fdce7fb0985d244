"""Keys delivered for windows whose gap was filled later.

The source that could not read such a window meets its rejected rows again whenever it reads the window again, and the
source that filled the gap may be away by then. So the keys of the window are kept while it may be read again, in an
entry `2026-11-24T02:13:05.123Z=2026-11-24T02:13:05.124Z`. A reading that finds no more rows than these, readable or
not, finds nothing that the sink lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.intervals import contains, intersect, subtract
from cfaudit_export.core.model import Gap, Window
from cfaudit_export.pipeline.dedup.seen import gap_keys, gap_windows, pack_gaps, packed, split, within
from cfaudit_export.schema import SHADOW


def keep_refilled(
    seen: Mapping[str, str], rows: pa.Table, read: Iterable[Window], gaps: Iterable[Window], window: Window
) -> dict[str, str]:
    """Return entries for what was odd in a window and could be read now.

    Args:
        seen: what the sink has.
        rows: all rows of the window.
        read: windows in which another source had to help.
        gaps: what could not be read, or was found odd again without anything new.
        window: what was read.
    """
    odd = [*gap_windows(seen), *(known for known, _ in _entries(seen)), *read]
    done = subtract(intersect(odd, [window]), gaps)
    return {name.replace("/", "="): keys for name, keys in pack_gaps(rows, done).items()}


def known_gaps(seen: Mapping[str, str], rows: pa.Table, gaps: Iterable[Gap], window: Window) -> tuple[Window, ...]:
    """Return the windows that were filled before, and in which these gaps hold nothing that the sink lacks."""
    gaps = tuple(gaps)
    return tuple(
        known
        for known, keys in _entries(seen)
        if intersect([known], [window]) == (known,) and _is_nothing_new(known, keys, rows, gaps)
    )


def without_shadows(rows: pa.Table, windows: Iterable[Window]) -> pa.Table:
    """Return the rows without the shadows that were cast in these windows."""
    windows = tuple(windows)
    if not windows:
        return rows
    cast = pc.equal(rows["fidelity"], SHADOW).to_pylist()
    times = rows["event_time"].to_pylist()
    return rows.filter(pa.array([not (dark and contains(windows, at)) for dark, at in zip(cast, times, strict=True)]))


def carry_keys(seen: Mapping[str, str], read: Mapping[str, str], shadows: Iterable[str]) -> dict[str, str]:
    """Return the entries of gaps with what the sink has there, though this reading could not read it.

    That is what was filled, and is forgotten earlier than a gap, and what the gap held on to before.

    Args:
        seen: what the sink has.
        read: entries of the gaps, by what could be read now.
        shadows: ids of shadows that the sink has; whether they still stand for anything is not to be decided here.
    """
    left_out = set(map(packed, shadows))
    carried = dict(read)
    for known, keys in (*_entries(seen), *gap_keys(seen)):
        for name, had in carried.items():
            since, before = map(datetime.fromisoformat, name.split("/"))
            if intersect([known], [Window(since, before)]):
                carried[name] = had + "".join(sorted(keys - split(had) - left_out))
    return carried


def refilled_windows(seen: Mapping[str, str]) -> tuple[Window, ...]:
    """Return the windows that could be read after all, and may be read again."""
    return tuple(window for window, _ in _entries(seen))


def _is_nothing_new(known: Window, keys: set[str], rows: pa.Table, gaps: tuple[Gap, ...]) -> bool:
    odd = [gap for gap in gaps if intersect([gap.window], [known])]
    if not odd or not all(gap.rows and intersect([gap.window], [known]) == (gap.window,) for gap in odd):
        return False
    here = within(rows, [known])
    events = here.filter(pc.not_equal(here["fidelity"], SHADOW))["event_key"].to_pylist()
    return keys.issuperset(map(packed, events)) and len(events) + sum(gap.rows for gap in odd) <= len(keys)


def _entries(seen: Mapping[str, str]) -> Iterator[tuple[Window, set[str]]]:
    for name, keys in seen.items():
        if "=" in name:
            since, before = map(datetime.fromisoformat, name.split("="))
            yield Window(since, before), split(keys)
