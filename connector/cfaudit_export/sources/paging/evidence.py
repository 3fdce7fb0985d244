"""What shows that time was read: pages, and what follows from them. Pieces are made of nothing else.

A range is covered by `Read`, which only a `Chain` of answered questions gives, or by `Dark`, which says why not. No
function takes two numbers and declares what lies between them as read; a test holds every other module to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.paging.buffer import RowBuffer
from cfaudit_export.sources.paging.moments import UNKNOWN_AFTER, UNKNOWN_BEFORE
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Unreadable
from cfaudit_export.sources.paging.rows import ascending, between, first_ms, last_ms

Proof = Literal["followed", "ended", "counted"]


@dataclass(frozen=True, slots=True)
class Read:
    """Milliseconds `[since, before)` of which pages show every row.

    Attributes:
        since_ms: first millisecond.
        before_ms: first millisecond after it.
        rows: its rows, ascending.
        proof: `followed`: a later row was returned as well; `ended`: the server had no more, and its last page was
            smaller than another of its pages; `counted`: a refused page says how many rows there are.
    """

    since_ms: int
    before_ms: int
    rows: pa.Table
    proof: Proof


@dataclass(frozen=True, slots=True)
class Dark:
    """A stretch that could not be read for certain, why, and the rows of it that were read nevertheless."""

    unreadable: Unreadable
    rows: pa.Table

    @property
    def since_ms(self) -> int:
        """First millisecond."""
        return self.unreadable.since_ms

    @property
    def before_ms(self) -> int:
        """First millisecond after it."""
        return self.unreadable.before_ms


Part = Read | Dark


@dataclass(frozen=True, slots=True)
class Piece:
    """Milliseconds `[since, before)`: read, but for what is named as unreadable.

    Attributes:
        since_ms: first millisecond.
        before_ms: first millisecond after it.
        rows: its rows, ascending, columns as those of the reader's pages.
        unreadable: what could not be read inside it.
        calls: tool calls it cost.
    """

    since_ms: int
    before_ms: int
    rows: pa.Table
    unreadable: tuple[Unreadable, ...]
    calls: int


def joined(parts: Sequence[Part], schema: pa.Schema, calls: int) -> Piece:
    """Make a piece of parts that adjoin, ascending.

    Raises:
        RuntimeError: something lies between two of them, or they overlap; a fault of the caller.
    """
    for one, other in pairwise(parts):
        if one.before_ms != other.since_ms:
            raise RuntimeError(f"a piece must have no hole: {one.before_ms} is followed by {other.since_ms}")
    rows = pa.concat_tables([schema.empty_table(), *(part.rows for part in parts)])
    dark = tuple(part.unreadable for part in parts if isinstance(part, Dark))
    return Piece(parts[0].since_ms, parts[-1].before_ms, ascending(rows), dark, calls)


def clipped(parts: Sequence[Part], since_ms: int, before_ms: int) -> list[Part]:
    """Return what of some parts lies within `[since, before)`."""
    kept: list[Part] = []
    for part in parts:
        low, high = max(part.since_ms, since_ms), min(part.before_ms, before_ms)
        if low >= high:
            continue
        rows = between(part.rows, low, high)
        if isinstance(part, Read):
            kept.append(replace(part, since_ms=low, before_ms=high, rows=rows))
        else:
            kept.append(Dark(replace(part.unreadable, since_ms=low, before_ms=high), rows))
    return kept


def split_at(rows: pa.Table, since_ms: int, before_ms: int, refused: Sequence[Unreadable]) -> list[Part]:
    """Cut a stretch whose rows were counted into what is read and what is not.

    Args:
        rows: all its rows but the refused ones and those that are hidden between these.
        since_ms: its first millisecond.
        before_ms: the one after its last.
        refused: where refused rows are, ascending and disjoint.
    """
    parts: list[Part] = []
    at = since_ms
    for one in refused:
        if one.since_ms > at:
            parts.append(Read(at, one.since_ms, between(rows, at, one.since_ms), "counted"))
        parts.append(Dark(one, between(rows, one.since_ms, one.before_ms)))
        at = one.before_ms
    if at < before_ms:
        parts.append(Read(at, before_ms, between(rows, at, before_ms), "counted"))
    return parts


class Chain:
    """Pages that continue one another from one end of a question, and what they show.

    Attributes:
        query: the question for the next page.
        ended: the last page was the last one for certain.
        empties: pages without rows since the last one with rows.
    """

    def __init__(self, query: Query, trusted_ms: int | None = None) -> None:
        """Begin with a question that has no cursor; a row that repeats in `trusted_ms` is known to be a twin."""
        self.query = query
        self._trusted_ms = trusted_ms
        self.ended = False
        self.empties = 0
        self._since, self._before = query.since_ms, query.before_ms
        self._buffer = RowBuffer()
        self._unreadable: list[Unreadable] = []
        self._oldest: int | None = None
        self._cursors: set[str] = set()

    @property
    def is_backward(self) -> bool:
        """Whether it goes from the end to the start."""
        return self.query.direction == "desc"

    @property
    def since_ms(self) -> int:
        """Where it begins, or goes on after what was taken."""
        return self._since

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self._buffer.rows

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        return self._buffer.bytes

    @property
    def last_table(self) -> pa.Table | None:
        """The rows of the last page that had any."""
        return self._buffer.last

    @property
    def last_ms(self) -> int | None:
        """Millisecond of the row that was read last; None without rows."""
        return self._oldest if self.is_backward else self._buffer.newest_ms

    @property
    def reached(self) -> int:
        """Up to where all is read, from the start on or, backward, from the end on."""
        last = self.last_ms
        if self.is_backward:
            return self._since if self.ended else self._before if last is None else max(last + 1, self._since)
        reached = self._before if self.ended else self._since if last is None else last
        return min(max(reached, self._since), self._before)

    def add(self, page: Page, *, ended: bool) -> None:
        """Add the page that continues the chain; `ended` when it is certainly the last one."""
        rows = between(page.rows, self._since, self._before)
        before = self.reached
        self.empties = 0 if page.rows.num_rows or page.unreadable else self.empties + 1
        self._buffer.add(rows)
        if rows.num_rows:
            self._oldest = first_ms(rows) if self._oldest is None else min(first_ms(rows), self._oldest)
        self._unreadable = [*self._closed(page), *(self._opened(one, before) for one in page.unreadable)]
        past = page.rows.num_rows and (
            first_ms(page.rows) < self._since if self.is_backward else last_ms(page.rows) >= self._before
        )
        self.ended = ended or bool(past)
        if page.cursor is not None:
            self._cursors.add(page.cursor)
            self.query = self.query.at(page.cursor)

    def _opened(self, one: Unreadable, reached: int) -> Unreadable:
        """Return rows of a page that have no time of their own, from where the page before ended on."""
        if one.since_ms == UNKNOWN_BEFORE:
            return replace(one, since_ms=self._since if self.is_backward else reached)
        return one

    def _closed(self, page: Page) -> list[Unreadable]:
        """Return what is unreadable so far, up to the first row of a further page where the end was not known."""
        if self.is_backward or not page.rows.num_rows:
            return self._unreadable
        end = first_ms(page.rows) + 1
        return [replace(one, before_ms=end) if one.before_ms == UNKNOWN_AFTER else one for one in self._unreadable]

    def repeats(self, cursor: str | None) -> bool:
        """Say whether a cursor leads back to a page that was read."""
        return cursor is not None and cursor in self._cursors

    def shifted(self, rows: pa.Table) -> int | None:
        """Return the millisecond from which on a further page contradicts those before, None if it does not.

        A cursor that counts rows repeats some when a latecomer slips in before it; without ids a repeated row looks
        like a twin, so one that stands to the letter in the same millisecond is doubted.
        """
        last, table = self.last_ms, self._buffer.last
        if last is None or table is None or not rows.num_rows:
            return None
        first = last_ms(rows) if self.is_backward else first_ms(rows)
        if first == last:
            if first == self._trusted_ms:
                return None
            tail = between(table, first, first + 1)["event_raw"]
            head = rows["event_raw"][rows.num_rows - 1 if self.is_backward else 0]
            return first if bool(pc.any(pc.equal(tail, head)).as_py()) else None
        return first if (first > last if self.is_backward else first < last) else None

    def rows_of(self, schema: pa.Schema, at_ms: int) -> pa.Table:
        """Return the rows of one millisecond."""
        rows = pa.concat_tables([schema.empty_table(), *self._buffer.tables])
        return ascending(between(rows, at_ms, at_ms + 1))

    def take(self, schema: pa.Schema, end_ms: int | None = None) -> list[Part]:
        """Return what is read for certain, ascending, and keep the rest.

        `end_ms` holds a forward chain to what lies before it.
        """
        reached = self.reached
        low, high = (reached, self._before) if self.is_backward else (self._since, reached)
        high = high if end_ms is None else min(high, end_ms)
        if low >= high:
            return []
        proof: Proof = "ended" if self.ended else "followed"
        held = pa.concat_tables([schema.empty_table(), *self._buffer.tables])
        self._buffer = RowBuffer()
        if self.is_backward:
            self._buffer.add(between(held, self._since, low))
            self._before = low
        else:
            self._buffer.add(between(held, high, self._before))
            self._since = high
        rows = ascending(between(held, low, high))
        return self._split(low, high, rows, proof)

    def _split(self, low: int, high: int, rows: pa.Table, proof: Proof) -> list[Part]:
        """Cut out what the server left out of its pages."""
        parts: list[Part] = []
        at = low
        for one in sorted(self._unreadable, key=lambda row: row.since_ms):
            since, before = max(one.since_ms, low, at), min(one.before_ms, high)
            if since >= before:
                if parts and one.since_ms < at and isinstance(parts[-1], Dark) and one.before_ms > low:
                    parts[-1] = _counted(parts[-1], one)
                continue
            if since > at:
                parts.append(Read(at, since, between(rows, at, since), proof))
            parts.append(Dark(replace(one, since_ms=since, before_ms=before), between(rows, since, before)))
            at = before
        self._unreadable = [row for row in self._unreadable if row.before_ms > high and not self.is_backward]
        if at < high:
            parts.append(Read(at, high, between(rows, at, high), proof))
        return parts


def _counted(dark: Dark, more: Unreadable) -> Dark:
    """Return a stretch with the rows of another that lies within it."""
    return Dark(replace(dark.unreadable, rows=dark.unreadable.rows + more.rows), dark.rows)
