"""Piece -> each sink's share of it: the rows that the sink has not got yet, and what is to be remembered of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.intervals import intersect, subtract
from cfaudit_export.core.model import Gap, Lateness, Seen, SinkProgress, Trimming, Window
from cfaudit_export.pipeline.dedup.refilled import carry_keys, keep_refilled, known_gaps, without_shadows
from cfaudit_export.pipeline.dedup.seen import gap_windows, pack, pack_windows, unseen, within
from cfaudit_export.pipeline.dedup.shadows import held_shadows, keep_shadows, remaining_shadows, replace_shadows
from cfaudit_export.pipeline.dedup.trimmed import Delivered, completions, trimming, unread, without_delivered
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.schema import SHADOW

_LATE_MINUTES = (1, 5, 15, 60, 360)


@dataclass(frozen=True, slots=True)
class SinkNeed:
    """What a sink is to have, and what it has.

    Attributes:
        account_id: whose events.
        windows: the time that it is to have.
        rescan: the part of it that is read again, for latecomers.
        progress: what it has.
        seen_since: from here on it remembers keys, should it have no memory yet.
        last_run_at: when the run before this one ended, and had read what is read again now.
    """

    account_id: str
    windows: tuple[Window, ...]
    rescan: tuple[Window, ...]
    progress: SinkProgress
    seen_since: datetime
    last_run_at: datetime


@dataclass(frozen=True, slots=True)
class NewRows:
    """What a piece is for one sink; the rows themselves are not kept in it.

    Attributes:
        window: the window of the sink that lies in the piece.
        seen: what is to be remembered of it.
        late: what came late.
        known: windows of gaps of which the sink has the rows already, from another source.
        trimming: what is trimmed, and what no longer, once it is delivered.
    """

    window: Window
    seen: Seen
    late: Lateness
    known: tuple[Window, ...]
    trimming: Trimming


def new_rows_of(table: pa.Table, extract: Extract, need: SinkNeed) -> Iterator[tuple[NewRows, pa.Table]]:
    """Yield a sink's shares of a piece, each with its rows: what the sink is to have, less what it has.

    Args:
        table: the rows of the piece, mapped.
        extract: the piece.
        need: what the sink is to have, and has.
    """
    for window in intersect([extract.window], need.windows):
        progress, since = need.progress, need.progress.seen_since or need.seen_since
        rows = within(table, [window])
        known = known_gaps(progress.seen, rows, extract.gaps, window)
        rows = without_shadows(rows, known)
        new, read = _new(rows, extract, need, window, known)
        # What a gap held back is no latecomer.
        late = within(new, subtract(need.rescan, gap_windows(progress.seen)))
        done = completions(rows, new, progress)
        events = rows.filter(pc.not_equal(rows["fidelity"], SHADOW))
        left = unread(progress.seen, events, held_shadows(progress.seen, need.account_id, window))
        delivered = Delivered(subtract([window], left), done)
        trimmed = trimming(new, events, extract, progress, delivered)
        keys = replace(read, hours=pack(new, since).hours)
        if done.num_rows:
            new = pa.concat_tables([new, done]).sort_by("event_time")
        yield NewRows(window, keys, _lateness(late, min(need.last_run_at, extract.read_at)), known, trimmed), new


def is_lacked(shares: Iterable[NewRows], gap: Gap) -> bool:
    """Say whether a gap is one for any sink; for none, where all that are to have its window know its rows."""
    lacked = [
        subtract(common, new_rows.known)
        for new_rows in shares
        if (common := intersect([gap.window], [new_rows.window]))
    ]
    return not lacked or any(lacked)


def _new(
    rows: pa.Table, extract: Extract, need: SinkNeed, window: Window, known: tuple[Window, ...]
) -> tuple[pa.Table, Seen]:
    """Return the rows that a sink lacks, and what to remember of the odd places in the window."""
    seen = need.progress.seen
    gaps = [gap for gap in extract.gaps if not intersect([gap.window], known)]
    held = held_shadows(seen, need.account_id, window)
    remaining = remaining_shadows(held, rows, gaps)
    lacking = without_delivered(unseen(rows, seen), need.progress, need.progress.seen_since or need.seen_since)
    new = replace_shadows(lacking, held, remaining)
    odd = intersect([gap.window for gap in gaps], [window])
    had = (name for names in held.values() for name in names)
    read = carry_keys(seen, keep_shadows(pack_windows(rows, odd), remaining), had)
    return new, Seen(gaps=read, refilled=keep_refilled(seen, rows, extract.refilled, (*odd, *known), window))


def _lateness(late: pa.Table, missed_at: datetime) -> Lateness:
    """Measure how long after their own time these events were still missing: when a run read that time last.

    To count until they are read now would count the time between runs.
    """
    if not late.num_rows:
        return Lateness()
    delays = pc.subtract(pa.scalar(missed_at, late["event_time"].type), late["event_time"]).cast(pa.int64())
    seconds = pc.max_element_wise(pc.divide(delays.cast(pa.float64()), 1e6), 0.0)
    by_minutes: dict[int, int] = {}
    for delay in seconds.to_pylist():
        minutes = next((limit for limit in _LATE_MINUTES if delay <= limit * 60), -1)
        by_minutes[minutes] = by_minutes.get(minutes, 0) + 1
    return Lateness(late.num_rows, round(pc.max(seconds).as_py(), 3), by_minutes)
