"""Strands, a query and the time -> one page: what the audit endpoint answers, with the cursor to go on from."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

from cfaudit_sandbox.world.log_segment import LogSegment
from cfaudit_sandbox.world.options import SandboxOptions
from cfaudit_sandbox.world.query import AuditQuery, BadQueryError, Position, read_cursor, write_cursor
from cfaudit_sandbox.world.text import SECOND_NS

# Before a cursor: for each, a page without rows came before.
_AGAIN = "~"

RecordPlace = tuple[int, int]
"""Where a record lies: number of its segment, index there. Equal instants are ordered by it."""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One answer of the audit endpoint: where its rows lie, and how to go on."""

    rows: list[RecordPlace]
    cursor: str | None


def find_page(segments: Sequence[LogSegment], query: AuditQuery, options: SandboxOptions, now_ns: int) -> AuditPage:
    """Find the rows that answer a query at a moment, refused ones included.

    Raises:
        BadQueryError: the window is none, or the cursor is unreadable or expired.
    """
    if query.before_ns < query.since_ns:
        raise BadQueryError("before lies ahead of since")
    cursor = query.cursor.lstrip(_AGAIN)
    position, skip = _read_position(cursor, options, now_ns)
    if len(query.cursor) - len(cursor) < options.empty_pages:
        return AuditPage([], _AGAIN + query.cursor)
    limit = min(query.limit, options.page_cap)
    walks = [
        _matching(segment, number, query, _bounds(segment, number, query, options, position), now_ns)
        for number, segment in enumerate(segments)
    ]
    merged = heapq.merge(*walks, reverse=query.direction == "desc") if len(walks) > 1 else walks[0]
    found = [(number, index) for _, number, index in islice(merged, skip, skip + limit + 1)]
    rows = found[:limit]
    if not rows or not (len(found) > limit or options.end_style == "extra-page"):
        return AuditPage(rows, "" if options.end_style == "empty" else None)
    if options.cursor_kind == "offset":
        return AuditPage(rows, write_cursor(skip + len(rows)))
    number, index = rows[-1]
    issued_ns = now_ns if options.cursor_kind == "expiring" else 0
    return AuditPage(rows, write_cursor(segments[number].times[index], number, index, issued_ns))


def walk(segments: Sequence[LogSegment]) -> Iterator[RecordPlace]:
    """Yield the place of every record in upstream order."""
    keyed = (
        zip(segment.times, repeat(number), range(len(segment.times)), strict=False)
        for number, segment in enumerate(segments)
    )
    for _, number, index in heapq.merge(*keyed):
        yield number, index


def rank(segments: Sequence[LogSegment], place: RecordPlace) -> int:
    """Count the records that lie ahead of one in upstream order."""
    number, index = place
    time_ns = segments[number].times[index]
    return index + sum(
        (bisect_right if other < number else bisect_left)(segment.times, time_ns)
        for other, segment in enumerate(segments)
        if other != number
    )


def _read_position(cursor: str, options: SandboxOptions, now_ns: int) -> tuple[Position | None, int]:
    """Read a cursor: the row after which to go on, or how many rows to skip."""
    if not cursor:
        return None, 0
    if options.cursor_kind == "offset":
        (skip,) = read_cursor(cursor, 1)
        return None, max(skip, 0)
    time_ns, segment, index, issued_ns = read_cursor(cursor, 4)
    lifetime_ns = options.cursor_lifetime_seconds * SECOND_NS
    if options.cursor_kind == "expiring" and now_ns - issued_ns > lifetime_ns:
        raise BadQueryError("the cursor has expired")
    return Position(time_ns, segment, index), 0


def _bounds(
    segment: LogSegment, number: int, query: AuditQuery, options: SandboxOptions, position: Position | None
) -> tuple[int, int]:
    """Find the index range of a segment that window and cursor leave."""
    times = segment.times
    low = (bisect_left if options.since_inclusive else bisect_right)(times, query.since_ns)
    high = (bisect_right if options.before_inclusive else bisect_left)(times, query.before_ns)
    if position is None:
        return low, high
    if number == position.segment:
        passed = position.index
    else:
        passed = (bisect_right if number < position.segment else bisect_left)(times, position.time_ns)
    if query.direction == "asc":
        return max(low, passed + (number == position.segment)), high
    return low, min(high, passed)


def _matching(
    segment: LogSegment, number: int, query: AuditQuery, bounds: tuple[int, int], now_ns: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the matching, visible records of a segment in the query's direction, with what to merge them by."""
    times, mask = segment.times, segment.mask(query.filters)
    low, high = bounds[0], min(bounds[1], bisect_right(times, now_ns))
    indices: Iterable[int]
    if query.direction == "asc":
        indices = range(low, high) if mask is None else _marked(mask, low, high)
    else:
        indices = range(high - 1, low - 1, -1) if mask is None else _marked_backwards(mask, low, high)
    for index in indices:
        if segment.visible_ns(index) <= now_ns:
            yield times[index], number, index


def _marked(mask: bytes, low: int, high: int) -> Iterator[int]:
    index = mask.find(1, low, high)
    while index >= 0:
        yield index
        index = mask.find(1, index + 1, high)


def _marked_backwards(mask: bytes, low: int, high: int) -> Iterator[int]:
    index = mask.rfind(1, low, high)
    while index >= 0:
        yield index
        index = mask.rfind(1, low, index)
