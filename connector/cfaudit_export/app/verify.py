"""An export, compared with its source; by another way than that by which it was made.

The checkpoint says what the export has: the time that is covered, less its gaps. That time is cut into parts, and each
part is read twice: from the files, and from the source, newest first and with pages of another size. Events are the
same when their `event_key` is.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from cfaudit_export.core.identity_key import IdentityKey
from cfaudit_export.core.intervals import contains, intersect, subtract
from cfaudit_export.core.model import MILLISECOND, Checkpoint, Connection, Gap, Lateness, Seen, Stream, Window, floor_ms
from cfaudit_export.pipeline.commit import observe
from cfaudit_export.pipeline.dedup.seen import merge, pack_windows
from cfaudit_export.pipeline.ledger import Change
from cfaudit_export.pipeline.map import map_extract
from cfaudit_export.pipeline.transform import NamedTransform, transformed
from cfaudit_export.schema import SHADOW

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.database import EventDatabase
    from cfaudit_export.plugin.interfaces import Extract

WHY = "missing in the export, as verify found"
# Two values that nearly every event has one of; each is read alone, and may show what the whole answer left out.
FACET = (("action_result", "success"), ("action_result", "failure"))

_PART_ROWS = 5_000
_PART_LENGTH = timedelta(days=1)
_HOUR = timedelta(hours=1)
_TOGETHER = timedelta(minutes=1)  # missing events that near each other become one gap
# A source may be asked a little wider than wanted, and a rejected row there would hide its neighbours.
_MARGIN = 2 * MILLISECOND


class Recounting(Protocol):
    """A source that can be compared with; see `cfaudit_export.plugin.interfaces.Source`."""

    def recount(self, window: Window, page_rows: int, filters: Iterable[tuple[str, str]] = ()) -> Extract:
        """Read a window in a second way."""
        ...


@dataclass(frozen=True, slots=True)
class ComparedWindow:
    """A stretch of time that is compared at once.

    Attributes:
        window: the time.
        rows: events that the export has there.
    """

    window: Window
    rows: int


@dataclass(frozen=True, slots=True)
class Difference:
    """An event that only one side has, or a time at which the source cannot be read.

    Attributes:
        what: `missing` in the export, `extra` in the export, or `unreadable` in the source.
        event_time: of the event; of an unreadable stretch its beginning.
        event_key: of the event, None for an unreadable stretch.
        before: the end of an unreadable stretch.
    """

    what: Literal["missing", "extra", "unreadable"]
    event_time: datetime
    event_key: str | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """A part, compared.

    Attributes:
        part: what was compared.
        source_rows: events that the source has there.
        calls: tool calls that it took.
        differences: ascending by time.
    """

    part: ComparedWindow
    source_rows: int
    calls: int
    differences: tuple[Difference, ...]


class Exported:
    """The events of one account in exported files."""

    def __init__(self, data: EventDatabase, account_id: str) -> None:
        self._data = data
        self._account = account_id

    def hours(self, window: Window) -> dict[datetime, int]:
        """Return how many events each hour of a window has; hours without any are left out."""
        rows = self._ask("date_trunc('hour', event_time) AS hour, count(*) AS events", window, "GROUP BY hour")
        return {row["hour"]: row["events"] for row in rows}

    def events(self, window: Window) -> pa.Table:
        """Return `event_key` and `event_time` of the events in a window."""
        rows = self._ask("event_key, event_time", window)
        return pa.table(
            {
                "event_key": pa.array([row["event_key"] for row in rows], pa.string()),
                "event_time": pa.array([row["event_time"] for row in rows], pa.timestamp("us", tz="UTC")),
            }
        )

    def _ask(self, what: str, window: Window, more: str = "") -> list[dict[str, Any]]:
        query = (
            f"SELECT {what} FROM audit_events WHERE account_id = $account AND fidelity <> $shadow "  # noqa: S608  # texts of this class
            f"AND event_time >= $since AND event_time < $before {more}"
        )
        values = {"account": self._account, "shadow": SHADOW, "since": window.since, "before": window.before}
        return self._data.ask(query, values)


def verifiable(checkpoint: Checkpoint, sink: str, period: Window) -> tuple[Window, ...]:
    """Return the time of a period in which the export ought to have every event: covered, and outside of gaps."""
    gaps = (Window(gap.window.since - _MARGIN, gap.window.before + _MARGIN) for gap in checkpoint.gaps)
    return subtract(intersect(checkpoint.sinks[sink].covered, [period]), gaps)


def parts_of(windows: Iterable[Window], hours: Mapping[datetime, int]) -> list[ComparedWindow]:
    """Cut time into parts on full hours: each of at most a day, and of at most so many events if hours allow it."""
    parts: list[ComparedWindow] = []
    for window in windows:
        start = window.since
        rows = 0
        for since in _hours(window):
            more = hours.get(since, 0)
            if since > start and (rows + more > _PART_ROWS or since - start >= _PART_LENGTH):
                parts.append(ComparedWindow(Window(start, since), rows))
                start, rows = since, 0
            rows += more
        parts.append(ComparedWindow(Window(start, window.before), rows))
    return parts


def _hours(window: Window) -> Iterable[datetime]:
    at = window.since.replace(minute=0, second=0, microsecond=0)
    while at < window.before:
        yield at
        at += _HOUR


def sample(parts: Sequence[ComparedWindow], number: int, seed: int) -> list[ComparedWindow]:
    """Return some of the parts, ascending; the same ones for the same seed."""
    if number >= len(parts):
        return list(parts)
    chosen = random.Random(seed).sample(range(len(parts)), number)  # noqa: S311  # a sample, no secret
    return [parts[at] for at in sorted(chosen)]


def page_rows_of(page_size: int) -> int:
    """Return another size of a page than the export has."""
    return max(page_size * 5 // 8, 2)


@dataclass(frozen=True, slots=True)
class RereadOptions:
    """How the source is read.

    Attributes:
        source: connected; it has a second way to read.
        stream: what was exported.
        connection: what the source found.
        transforms: applied as by the run that exported.
        identity: what makes the keys of events.
        page_rows: rows of a page.
        by_filter: whether parts are read again by the values of a filter.
    """

    source: Any
    stream: Stream
    connection: Connection
    transforms: tuple[NamedTransform, ...]
    identity: IdentityKey | None
    page_rows: int
    by_filter: bool

    def calls_for(self, parts: Iterable[ComparedWindow]) -> int:
        """Return about how many calls of the tool it takes: pages of each part, and two that find nothing more."""
        times = 1 + len(FACET) * self.by_filter
        return sum(times * (math.ceil(part.rows / self.page_rows) + 2) for part in parts)

    def read(self, window: Window, filters: Iterable[tuple[str, str]] = ()) -> tuple[pa.Table, Extract]:
        """Return the events of a window as an export has them, and what the source said."""
        source: Recounting = self.source
        extract = source.recount(window, self.page_rows, filters)
        return transformed(map_extract(extract, self.stream, self.connection, self.identity), self.transforms), extract


def compare(part: ComparedWindow, reading: RereadOptions, exported: Exported) -> Compared:
    """Compare a part. Raises what the source and reading files raise."""
    whole, extract = reading.read(part.window)
    calls, unread = extract.calls, [gap.window for gap in extract.gaps]
    theirs = _times(whole)
    for condition in FACET if reading.by_filter else ():
        some, extract = reading.read(part.window, [condition])
        calls += extract.calls
        theirs = _times(some) | theirs
    events = exported.events(part.window)
    ours = _times(events)
    found = [
        *_only("missing", theirs, ours),
        *_only("extra", ours, theirs),
        *(Difference("extra", at, key) for key, at in _doubled(events)),
    ]
    outside = [one for one in found if not contains(unread, one.event_time)]
    stretches = [Difference("unreadable", window.since, before=window.before) for window in unread]
    ordered = sorted([*outside, *stretches], key=lambda one: (one.event_time, one.event_key or ""))
    return Compared(part, whole.num_rows, calls, tuple(ordered))


def _times(events: pa.Table) -> dict[str, datetime]:
    """Return the time of each key."""
    return dict(zip(events["event_key"].to_pylist(), events["event_time"].to_pylist(), strict=True))


def _only(what: Literal["missing", "extra"], one: dict[str, datetime], other: dict[str, datetime]) -> list[Difference]:
    return [Difference(what, at, key) for key, at in one.items() if key not in other]


def _doubled(events: pa.Table) -> list[tuple[str, datetime]]:
    """Return each key once for every time that it stands there too often."""
    times = _times(events)
    counted = Counter(events["event_key"].to_pylist())
    return [(key, times[key]) for key, count in counted.items() for _ in range(count - 1)]


# -- repair -------------------------------------------------------------------------------------------


def repaired(compared: Iterable[Compared], exported: Exported, sink: str, now: datetime) -> Change:
    """Make gaps of what is missing in the export of a sink, so that a run reads it again.

    What the export has in such a gap is remembered with it, and is not delivered again.
    """
    gaps = [gap for one in compared for gap in _gaps(one, now)]
    keys = {gap.window: pack_windows(exported.events(gap.window), [gap.window]) for gap in gaps}

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for gap in gaps:
            checkpoint = observe(gap.window, [gap], Lateness())(checkpoint)
            progress = checkpoint.sinks[sink]
            kept = replace(progress, seen=merge(progress.seen, Seen(gaps=keys[gap.window])))
            checkpoint = replace(checkpoint, sinks={**checkpoint.sinks, sink: kept})
        return checkpoint

    return change


def _gaps(compared: Compared, now: datetime) -> list[Gap]:
    """Return gaps that hold the missing events of a part: one for those that are near each other."""
    gaps: list[Gap] = []
    for one in compared.differences:
        if one.what != "missing":
            continue
        since = floor_ms(one.event_time)
        if gaps and since - gaps[-1].window.before < _TOGETHER:
            last = gaps[-1]
            gaps[-1] = replace(last, window=Window(last.window.since, since + MILLISECOND), rows=last.rows + 1)
        else:
            gaps.append(Gap(Window(since, since + MILLISECOND), 1, WHY, now, now, attempts=0))
    return gaps
