"""Rows that were delivered trimmed, and later whole: what a sink has of them, and the rows that take their place.

What is remembered are intervals, not rows: every row that a sink has in one of them is trimmed. An interval is added
when a piece is delivered trimmed as calls ran out, and goes when a piece comes for it that has all columns. The rows
of that piece which the sink has are delivered again, with an id of their own, and `replaces` names the row whose place
each takes. The id of the trimmed row is its key, as a source that trims gives no ids; rows with others are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.identity import completion_key
from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import EPOCH, MILLISECOND, SinkProgress, Trimmed, Trimming, Window, floor_ms
from cfaudit_export.pipeline.dedup.seen import gap_windows, within
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.schema import SHADOW

# A checkpoint stays readable. What is beyond stays trimmed, and counted.
MOST_INTERVALS = 500
# Intervals that touch become one, unless one has waited for longer than that.
_SAME_AGE = timedelta(hours=6)
_WHOLE = pa.array(["full", "recovered"])


def to_complete(progress: SinkProgress) -> tuple[Window, ...]:
    """Return the intervals whose rows a sink has trimmed, but for gaps: there it is not known which rows it has."""
    return subtract((one.window for one in progress.trimmed), gap_windows(progress.seen))


def to_read(progress: SinkProgress) -> tuple[Window, ...]:
    """Return what is read to complete them: with gaps in between, as an end at a gap would meet its rejected row."""
    whole = union(*(one.window for one in progress.trimmed))
    return tuple(window for window in whole if subtract([window], gap_windows(progress.seen)))


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
    if not known.num_rows:
        return known
    keys, ids = known["event_key"], known["event_id"].to_pylist()
    own = [completion_key(key) if key == name else name for key, name in zip(keys.to_pylist(), ids, strict=True)]
    named = known.set_column(known.schema.get_field_index("event_id"), known.schema.field("event_id"), pa.array(own))
    return named.set_column(known.schema.get_field_index("replaces"), known.schema.field("replaces"), keys)


def trimming(rows: pa.Table, new: pa.Table, extract: Extract, completed: int, delivered: Iterable[Window]) -> Trimming:
    """Return what a delivery changes in what a sink has trimmed.

    Args:
        rows: all rows of the window.
        new: those of them that the sink lacks.
        extract: the piece.
        completed: how many rows take the place of trimmed ones.
        delivered: the window, but for gaps that the sink knows.
    """
    events = rows.filter(pc.not_equal(rows["fidelity"], SHADOW))
    if pc.all(pc.is_in(events["fidelity"], value_set=_WHOLE)).as_py() is not False:
        return Trimming(completed=tuple(delivered), rows=completed)
    whole = new.filter(pc.is_in(new["fidelity"], value_set=_WHOLE))
    cut = union(*(_millisecond(at) for at in set(whole["event_time"].to_pylist())))
    added = tuple(_added(events, new, tuple(delivered), extract.read_at)) if extract.trimmed else ()
    return Trimming(added, cut, completed)


def trimmed_after(progress: SinkProgress, change: Trimming) -> SinkProgress:
    """Return what a sink has once a delivery is done."""
    if not progress.trimmed and not change.added:
        return progress
    left = [part for one in progress.trimmed for part in _parts(one, subtract([one.window], change.completed))]
    merged: list[Trimmed] = []
    for one in sorted([*left, *change.added], key=lambda one: one.window):
        last = merged[-1] if merged else None
        if last and one.window.since <= last.window.before and abs(one.since - last.since) < _SAME_AGE:
            joined = Window(last.window.since, max(last.window.before, one.window.before))
            merged[-1] = Trimmed(joined, last.rows + one.rows, min(last.since, one.since))
        else:
            merged.append(one)
    rows = progress.trimmed_rows + sum(one.rows for one in change.added) - change.rows
    return replace(progress, trimmed=tuple(merged[-MOST_INTERVALS:]), trimmed_rows=max(rows, 0))


def _added(events: pa.Table, new: pa.Table, delivered: tuple[Window, ...], at: datetime) -> Iterator[Trimmed]:
    """Yield intervals in which all rows are new and trimmed: the whole window if they are, else as much as holds."""
    mine = new.filter(pc.and_(pc.equal(new["fidelity"], "trimmed"), pc.equal(new["event_id"], new["event_key"])))
    if mine.num_rows == events.num_rows and len(delivered) == 1:
        yield Trimmed(delivered[0], mine.num_rows, at)
        return
    good = pc.is_in(events["event_key"], value_set=mine["event_key"].combine_chunks()).to_pylist()
    by_moment: dict[datetime, list[bool]] = {}
    for moment, is_good in zip(events["event_time"].to_pylist(), good, strict=True):
        by_moment.setdefault(floor_ms(moment), []).append(is_good)
    run: list[tuple[datetime, int]] = []
    for moment, rows in sorted(by_moment.items()):
        if all(rows):
            run.append((moment, len(rows)))
        elif run:
            yield _interval(run, at)
            run = []
    if run:
        yield _interval(run, at)


def _interval(run: list[tuple[datetime, int]], at: datetime) -> Trimmed:
    return Trimmed(Window(run[0][0], run[-1][0] + MILLISECOND), sum(rows for _, rows in run), at)


def _parts(one: Trimmed, rest: tuple[Window, ...]) -> Iterator[Trimmed]:
    """Yield what is left of an interval, its rows spread evenly, as where they are was not counted."""
    if rest == (one.window,):
        yield one
        return
    for window in rest:
        share = window.duration / one.window.duration
        yield Trimmed(window, max(round(one.rows * share), 1), one.since)


def _millisecond(at: datetime) -> Window:
    return Window(floor_ms(at), floor_ms(at) + MILLISECOND)
