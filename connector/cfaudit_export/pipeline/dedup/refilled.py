"""What a sink has of windows with rows that could not be read at first, and were read after all.

The source that could not read them meets them again whenever the window is read again, and the source that read them
then may not be in use by now. So the keys of such a window are kept while it may be read again (`Seen.refilled`): a
reading that finds no more rows than these, readable or not, finds nothing that the sink lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.intervals import contains, intersect, subtract
from cfaudit_export.core.model import Gap, Seen, SeenWindow, Window
from cfaudit_export.pipeline.dedup.seen import gap_windows, pack_windows, packed, split, within
from cfaudit_export.schema import SHADOW


def keep_refilled(
    seen: Seen, rows: pa.Table, read: Iterable[Window], gaps: Iterable[Window], window: Window
) -> tuple[SeenWindow, ...]:
    """Return entries for what was odd in a window and could be read now.

    Args:
        seen: what the sink has.
        rows: all rows of the window.
        read: windows in which another source had to help.
        gaps: what could not be read, or was found odd again without anything new.
        window: what was read.
    """
    odd = [*gap_windows(seen), *refilled_windows(seen), *read]
    done = subtract(intersect(odd, [window]), gaps)
    return pack_windows(rows, done)


def known_gaps(seen: Seen, rows: pa.Table, gaps: Iterable[Gap], window: Window) -> tuple[Window, ...]:
    """Return the windows that were filled before, and in which these gaps hold nothing that the sink lacks."""
    gaps = tuple(gaps)
    return tuple(
        one.window
        for one in seen.refilled
        if intersect([one.window], [window]) == (one.window,) and _is_nothing_new(one, rows, gaps)
    )


def without_shadows(rows: pa.Table, windows: Iterable[Window]) -> pa.Table:
    """Return the rows without the shadows that were cast in these windows."""
    windows = tuple(windows)
    if not windows:
        return rows
    cast = pc.equal(rows["fidelity"], SHADOW).to_pylist()
    times = rows["event_time"].to_pylist()
    return rows.filter(pa.array([not (dark and contains(windows, at)) for dark, at in zip(cast, times, strict=True)]))


def carry_keys(seen: Seen, read: Iterable[SeenWindow], shadows: Iterable[str]) -> tuple[SeenWindow, ...]:
    """Return the entries of gaps with what the sink has there, though this reading could not read it.

    That is what was filled, and is forgotten earlier than a gap, and what the gap held on to before.

    Args:
        seen: what the sink has.
        read: entries of the gaps, by what could be read now.
        shadows: ids of shadows that the sink has; whether they still stand for anything is not to be decided here.
    """
    left_out = set(map(packed, shadows))
    carried = []
    for one in read:
        keys = one.keys
        for known in (*seen.refilled, *seen.gaps):
            if intersect([known.window], [one.window]):
                keys += "".join(sorted(split(known.keys) - split(keys) - left_out))
        carried.append(replace(one, keys=keys))
    return tuple(carried)


def refilled_windows(seen: Seen) -> tuple[Window, ...]:
    """Return the windows that could be read after all, and may be read again."""
    return tuple(one.window for one in seen.refilled)


def _is_nothing_new(one: SeenWindow, rows: pa.Table, gaps: tuple[Gap, ...]) -> bool:
    known, keys = one.window, split(one.keys)
    odd = [gap for gap in gaps if intersect([gap.window], [known])]
    if not odd or not all(gap.rows and intersect([gap.window], [known]) == (gap.window,) for gap in odd):
        return False
    here = within(rows, [known])
    events = here.filter(pc.not_equal(here["fidelity"], SHADOW))["event_key"].to_pylist()
    return keys.issuperset(map(packed, events)) and len(events) + sum(gap.rows for gap in odd) <= len(keys)
