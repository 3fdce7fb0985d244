"""Strands, a query and the time -> one page: what the audit endpoint answers, with the cursor to go on from."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

from cfaudit_sandbox.world.options import SandboxOptions
from cfaudit_sandbox.world.query import BadQueryError, Position, Query, read_cursor, write_cursor
from cfaudit_sandbox.world.strand import Strand
from cfaudit_sandbox.world.text import SECOND_NS

# Before a cursor: for each, a page without rows came before.
_AGAIN = "~"

Place = tuple[int, int]
"""Where a record lies: number of its strand, index there. Equal instants are ordered by it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the audit endpoint: where its rows lie, and how to go on."""

    rows: list[Place]
    cursor: str | None


def find_page(strands: Sequence[Strand], query: Query, options: SandboxOptions, now_ns: int) -> Page:
    """Find the rows that answer a query at a moment, refused ones included.

    Raises:
        BadQueryError: the window is none, or the cursor is unreadable or expired.
    """
    if query.before_ns < query.since_ns:
        raise BadQueryError("before lies ahead of since")
    cursor = query.cursor.lstrip(_AGAIN)
    position, skip = _read_position(cursor, options, now_ns)
    if len(query.cursor) - len(cursor) < options.empty_pages:
        return Page([], _AGAIN + query.cursor)
    limit = min(query.limit, options.page_cap)
    walks = [
        _matching(strand, number, query, _bounds(strand, number, query, options, position), now_ns)
        for number, strand in enumerate(strands)
    ]
    merged = heapq.merge(*walks, reverse=query.direction == "desc") if len(walks) > 1 else walks[0]
    found = [(number, index) for _, number, index in islice(merged, skip, skip + limit + 1)]
    rows = found[:limit]
    if not rows or not (len(found) > limit or options.end_style == "extra-page"):
        return Page(rows, "" if options.end_style == "empty" else None)
    if options.cursor_kind == "offset":
        return Page(rows, write_cursor(skip + len(rows)))
    number, index = rows[-1]
    issued_ns = now_ns if options.cursor_kind == "expiring" else 0
    return Page(rows, write_cursor(strands[number].times[index], number, index, issued_ns))


def walk(strands: Sequence[Strand]) -> Iterator[Place]:
    """Yield the place of every record in upstream order."""
    keyed = (
        zip(strand.times, repeat(number), range(len(strand.times)), strict=False)
        for number, strand in enumerate(strands)
    )
    for _, number, index in heapq.merge(*keyed):
        yield number, index


def rank(strands: Sequence[Strand], place: Place) -> int:
    """Count the records that lie ahead of one in upstream order."""
    number, index = place
    time_ns = strands[number].times[index]
    return index + sum(
        (bisect_right if other < number else bisect_left)(strand.times, time_ns)
        for other, strand in enumerate(strands)
        if other != number
    )


def _read_position(cursor: str, options: SandboxOptions, now_ns: int) -> tuple[Position | None, int]:
    """Read a cursor: the row after which to go on, or how many rows to skip."""
    if not cursor:
        return None, 0
    if options.cursor_kind == "offset":
        (skip,) = read_cursor(cursor, 1)
        return None, max(skip, 0)
    time_ns, strand, index, issued_ns = read_cursor(cursor, 4)
    lifetime_ns = options.cursor_lifetime_seconds * SECOND_NS
    if options.cursor_kind == "expiring" and now_ns - issued_ns > lifetime_ns:
        raise BadQueryError("the cursor has expired")
    return Position(time_ns, strand, index), 0


def _bounds(
    strand: Strand, number: int, query: Query, options: SandboxOptions, position: Position | None
) -> tuple[int, int]:
    """Find the index range of a strand that window and cursor leave."""
    times = strand.times
    low = (bisect_left if options.since_inclusive else bisect_right)(times, query.since_ns)
    high = (bisect_right if options.before_inclusive else bisect_left)(times, query.before_ns)
    if position is None:
        return low, high
    if number == position.strand:
        passed = position.index
    else:
        passed = (bisect_right if number < position.strand else bisect_left)(times, position.time_ns)
    if query.direction == "asc":
        return max(low, passed + (number == position.strand)), high
    return low, min(high, passed)


def _matching(
    strand: Strand, number: int, query: Query, bounds: tuple[int, int], now_ns: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the matching, visible records of a strand in the query's direction, with what to merge them by."""
    times, mask = strand.times, strand.mask(query.filters)
    low, high = bounds[0], min(bounds[1], bisect_right(times, now_ns))
    indices: Iterable[int]
    if query.direction == "asc":
        indices = range(low, high) if mask is None else _marked(mask, low, high)
    else:
        indices = range(high - 1, low - 1, -1) if mask is None else _marked_backwards(mask, low, high)
    for index in indices:
        if strand.visible_ns(index) <= now_ns:
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
