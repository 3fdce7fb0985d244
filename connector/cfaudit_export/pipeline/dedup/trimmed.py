"""Rows that were delivered trimmed, and later whole: what a sink has of them, and the rows that take their place.

What is remembered are intervals, not rows: every row that a sink has in one of them is trimmed, unless the interval
is a millisecond that names those which are. An interval is added
when a piece is delivered trimmed as calls ran out, and goes when a piece comes for it that has all columns. The rows
of that piece which the sink has are delivered again, with an id of their own, and `replaces` names the row whose place
each takes. The id of the trimmed row is its key, as a source that trims gives no ids; rows with others are left alone.
In a gap the sink remembers the keys of what it has: rows there are completed like all others, and a gap stays as it is
where a piece does not bring them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.identity import completion_key
from cfaudit_export.core.intervals import contains, intersect, subtract, union
from cfaudit_export.core.model import EPOCH, MILLISECOND, Seen, SinkProgress, Trimmed, Trimming, Window, floor_ms
from cfaudit_export.pipeline.dedup.seen import gap_windows, packed, split, within
from cfaudit_export.pipeline.dedup.shadows import HeldShadows
from cfaudit_export.plugin.interfaces import Extract

# A checkpoint stays readable. What is beyond stays trimmed, and counted.
MOST_INTERVALS = 500
# Intervals that touch become one, unless one has waited for longer than that.
_SAME_AGE = timedelta(hours=6)
_WHOLE = pa.array(["full", "recovered"])


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is delivered of a window.

    Attributes:
        windows: the window, but for gaps of which the sink has more than is delivered.
        completed: the rows that take the place of trimmed ones, in such gaps too: each may come only once.
    """

    windows: tuple[Window, ...]
    completed: pa.Table


def to_complete(progress: SinkProgress) -> tuple[Window, ...]:
    """Return the intervals whose rows a sink has trimmed."""
    return union(*(one.window for one in progress.trimmed))


def to_read(progress: SinkProgress) -> tuple[Window, ...]:
    """Return what is read to complete them: not what is all gap, as its ends would meet the rejected rows each time."""
    return tuple(window for window in to_complete(progress) if subtract([window], gap_windows(progress.seen)))


def without_delivered(new: pa.Table, progress: SinkProgress, since: datetime) -> pa.Table:
    """Return the rows that a sink lacks, of those whose keys it does not remember.

    Keys are remembered from `since` on. Of what it has of earlier times, but for gaps, it has every row.
    """
    had = subtract(intersect(progress.covered, [Window(EPOCH, since)]), gap_windows(progress.seen))
    old = within(new, had)
    if not old.num_rows:
        return new
    return new.filter(pc.invert(pc.is_in(new["event_key"], value_set=old["event_key"].combine_chunks())))


def completions(rows: pa.Table, new: pa.Table, progress: SinkProgress) -> pa.Table:
    """Return rows with all columns that take the place of trimmed ones.

    Args:
        rows: all rows of a window.
        new: those of them that the sink lacks.
        progress: what the sink has.
    """
    inside = within(rows, to_complete(progress))
    mine = inside.filter(pc.is_in(inside["fidelity"], value_set=_WHOLE))
    known = mine.filter(pc.invert(pc.is_in(mine["event_key"], value_set=new["event_key"].combine_chunks())))
    known = _named(known, progress)
    if not known.num_rows:
        return known
    keys, ids = known["event_key"], known["event_id"].to_pylist()
    own = [completion_key(key) if key == name else name for key, name in zip(keys.to_pylist(), ids, strict=True)]
    named = known.set_column(known.schema.get_field_index("event_id"), known.schema.field("event_id"), pa.array(own))
    return named.set_column(known.schema.get_field_index("replaces"), known.schema.field("replaces"), keys)


def unread(seen: Seen, events: pa.Table, held: HeldShadows) -> tuple[Window, ...]:
    """Return the gaps of which a sink has events that a piece does not bring.

    Args:
        seen: what the sink has.
        events: the events of the piece.
        held: the shadows that the sink has.
    """
    shadows = {packed(name) for names in held.values() for name in names}
    return tuple(
        gap.window
        for gap in seen.gaps
        if split(gap.keys) - shadows - set(map(packed, within(events, [gap.window])["event_key"].to_pylist()))
    )


def trimming(
    new: pa.Table, events: pa.Table, extract: Extract, progress: SinkProgress, delivered: Delivered
) -> Trimming:
    """Return what a delivery changes in what a sink has trimmed.

    Args:
        new: the rows of the window that the sink lacks.
        events: all rows of the window, but for shadows.
        extract: the piece.
        progress: what the sink has.
        delivered: what is delivered.
    """
    completed, rows = _milliseconds(delivered.completed), delivered.completed.num_rows
    if pc.all(pc.is_in(events["fidelity"], value_set=_WHOLE)).as_py() is not False:
        return Trimming(completed=union(*delivered.windows, *completed), rows=rows)
    whole = new.filter(pc.is_in(new["fidelity"], value_set=_WHOLE))
    added = tuple(_added(events, new, progress, delivered.windows, extract.read_at)) if extract.trimmed else ()
    return Trimming(added, union(*_milliseconds(whole), *completed), rows)


def trimmed_after(progress: SinkProgress, change: Trimming) -> SinkProgress:
    """Return what a sink has once a delivery is done."""
    if not progress.trimmed and not change.added:
        return progress
    left = [part for one in progress.trimmed for part in _parts(one, subtract([one.window], change.completed))]
    merged: list[Trimmed] = []
    for one in sorted([*left, *change.added], key=lambda one: one.window):
        last = merged[-1] if merged else None
        is_alike = last and not last.keys and not one.keys
        if last and is_alike and one.window.since <= last.window.before and abs(one.since - last.since) < _SAME_AGE:
            joined = Window(last.window.since, max(last.window.before, one.window.before))
            merged[-1] = Trimmed(joined, last.rows + one.rows, min(last.since, one.since))
        else:
            merged.append(one)
    rows = progress.trimmed_rows + sum(one.rows for one in change.added) - change.rows
    return replace(progress, trimmed=tuple(merged[-MOST_INTERVALS:]), trimmed_rows=max(rows, 0))


def _named(rows: pa.Table, progress: SinkProgress) -> pa.Table:
    """Return the rows of intervals that are trimmed as a whole, and of others those whose keys are named."""
    named = "".join(one.keys for one in progress.trimmed)
    if not named:
        return rows
    whole, keys = _all_trimmed(progress), split(named)
    pairs = zip(rows["event_time"].to_pylist(), rows["event_key"].to_pylist(), strict=True)
    return rows.filter(pa.array([contains(whole, at) or packed(key) in keys for at, key in pairs], pa.bool_()))


def _all_trimmed(progress: SinkProgress) -> tuple[Window, ...]:
    return union(*(one.window for one in progress.trimmed if not one.keys))


def _added(
    events: pa.Table, new: pa.Table, progress: SinkProgress, windows: tuple[Window, ...], at: datetime
) -> Iterator[Trimmed]:
    """Yield intervals in which all rows are trimmed: the whole window if all are new, else as much as holds."""
    mine = new.filter(pc.and_(pc.equal(new["fidelity"], "trimmed"), pc.equal(new["event_id"], new["event_key"])))
    if mine.num_rows == events.num_rows and len(windows) == 1:
        yield Trimmed(windows[0], mine.num_rows, at)
        return
    had, fresh = _all_trimmed(progress), set(mine["event_key"].to_pylist())
    by_moment: dict[datetime, list[str]] = {}
    for moment, key in zip(events["event_time"].to_pylist(), events["event_key"].to_pylist(), strict=True):
        by_moment.setdefault(floor_ms(moment), []).append(key)
    for window in windows:
        run: list[tuple[datetime, int]] = []
        for moment, keys in sorted(by_moment.items()):
            if not window.since <= moment < window.before:
                continue
            added = fresh.intersection(keys)
            if len(added) == len(keys) or contains(had, moment):
                run.append((moment, len(added)))
                continue
            yield from _interval(run, at)
            run = []
            if added:
                yield Trimmed(_millisecond(moment), len(added), at, "".join(map(packed, sorted(added))))
        yield from _interval(run, at)


def _interval(run: list[tuple[datetime, int]], at: datetime) -> Iterator[Trimmed]:
    rows = sum(number for _, number in run)
    if rows:
        yield Trimmed(Window(run[0][0], run[-1][0] + MILLISECOND), rows, at)


def _parts(one: Trimmed, rest: tuple[Window, ...]) -> Iterator[Trimmed]:
    """Yield what is left of an interval, its rows spread evenly, as where they are was not counted."""
    if rest == (one.window,):
        yield one
        return
    for window in rest:
        share = window.duration / one.window.duration
        yield Trimmed(window, max(round(one.rows * share), 1), one.since)


def _milliseconds(rows: pa.Table) -> tuple[Window, ...]:
    return union(*(_millisecond(at) for at in set(rows["event_time"].to_pylist())))


def _millisecond(at: datetime) -> Window:
    return Window(floor_ms(at), floor_ms(at) + MILLISECOND)
