"""A piece that was read before and is read again -> the parts of it that hold rows which a sink has not got."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import MILLISECOND, Checkpoint, Gap, Window, floor_ms
from cfaudit_export.pipeline.dedup.missing import SinkNeed
from cfaudit_export.pipeline.dedup.refilled import refilled_windows
from cfaudit_export.pipeline.dedup.seen import unseen, within
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.schema import SHADOW

# To rebuild the columns of an interval costs some fifteen calls at least, and a call more for about so many rows.
_APART_ROWS = 500


def unseen_windows(rows: pa.Table, gaps: Iterable[Gap], needs: Iterable[SinkNeed]) -> tuple[Window, ...]:
    """Return intervals, on whole milliseconds, that hold all rows of a piece that a sink lacks; few, and short.

    An interval reaches into no gap of the piece, unless a row stands there that is new; then it holds all of the gap.

    Args:
        rows: the rows of the piece, mapped, ascending by time.
        gaps: the gaps of the piece.
        needs: what each sink is to have, and has.
    """
    new = _milliseconds(rows, needs)
    if not new:
        return ()
    odd = tuple(gap.window for gap in gaps)
    exact = union(*new)
    inside = tuple(gap for gap in odd if intersect([gap], exact))
    outside = tuple(gap for gap in odd if gap not in inside)
    joined = [Window(first.since, last.before) for first, last in _runs(rows, exact)]
    return subtract([*joined, *inside], outside)


def known_gaps(checkpoint: Checkpoint) -> tuple[Window, ...]:
    """Return the windows of rows that a source is known to refuse, disjoint: gaps, and filled ones."""
    refilled = (window for progress in checkpoint.sinks.values() for window in refilled_windows(progress.seen))
    known: list[Window] = []
    for window in sorted({*(gap.window for gap in checkpoint.gaps), *refilled}):
        if not known or known[-1].before <= window.since:  # those that touch stay apart: a row lies between
            known.append(window)
    return tuple(known)


def part_of(extract: Extract, window: Window) -> Extract:
    """Return what a piece says of a window in it; what it cost is of the whole piece."""
    if window == extract.window:
        return extract
    gaps = tuple(
        gap if rest == gap.window else replace(gap, window=rest, rows=0)
        for gap in extract.gaps
        for rest in intersect([gap.window], [window])
    )
    events = within(extract.events, [window])
    return replace(extract, window=window, events=events, gaps=gaps, refilled=intersect(extract.refilled, [window]))


def _milliseconds(rows: pa.Table, needs: Iterable[SinkNeed]) -> tuple[Window, ...]:
    found = set()
    events = rows.filter(pc.not_equal(rows["fidelity"], SHADOW))
    for need in needs:
        lacking = unseen(within(events, need.windows), need.progress.seen)
        found |= {floor_ms(at) for at in lacking["event_time"].to_pylist()}
    return tuple(Window(at, at + MILLISECOND) for at in sorted(found))


def _runs(rows: pa.Table, new: tuple[Window, ...]) -> list[tuple[Window, Window]]:
    """Return the first and the last of those between which few other rows lie."""
    times = rows["event_time"]
    runs = [(new[0], new[0])]
    for window in new[1:]:
        first, last = runs[-1]
        since, before = (pa.scalar(at, times.type) for at in (last.before, window.since))
        between = pc.sum(pc.and_(pc.greater_equal(times, since), pc.less(times, before))).as_py()
        if between <= _APART_ROWS:
            runs[-1] = (first, window)
        else:
            runs.append((window, window))
    return runs
