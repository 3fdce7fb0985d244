"""A range of time -> pieces: every row exactly once, cut on milliseconds, whatever cursors, edges and ties do."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.errors import ProtocolError, SourceUnavailableError
from cfaudit_export.sources.auditlogs.board import Board, Range
from cfaudit_export.sources.auditlogs.contract import Query, Rejection, Unreadable
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA, Page
from cfaudit_export.sources.auditlogs.held import Held
from cfaudit_export.sources.auditlogs.narrow import narrow
from cfaudit_export.sources.auditlogs.reader import CursorDeadError
from cfaudit_export.sources.auditlogs.rows import ascending, between, first_ms, from_ms_on, last_ms
from cfaudit_export.sources.auditlogs.way import Way
from cfaudit_export.sources.pages import PageReader

_LOG = logging.getLogger(__name__)
_ANCHORS = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """Milliseconds `[since, before)`, read to the end.

    Attributes:
        since_ms: first millisecond.
        before_ms: first millisecond after it.
        rows: its rows, ascending, columns as `Manner.schema`.
        unreadable: what the server refuses inside it.
        calls: tool calls it cost.
    """

    since_ms: int
    before_ms: int
    rows: pa.Table
    unreadable: tuple[Unreadable, ...]
    calls: int


@dataclass(frozen=True, slots=True)
class Manner:
    """How to walk.

    Attributes:
        page_size: rows asked for per page.
        piece_rows: rows after which a piece is handed on.
        filters: the filters of the stream.
        schema: the columns of its pages.
        piece_bytes: bytes after which a piece is handed on, however few rows they are.
        first_rows: rows after which the first piece of a walk is handed on; 0 for `piece_rows`.
        known: gaps that are known already, `[since, before)` in milliseconds, ascending and disjoint. The walk reads
            around each, and asks for it again with one call at most.
    """

    page_size: int
    piece_rows: int
    filters: tuple[tuple[str, str], ...] = ()
    schema: pa.Schema = PAGE_SCHEMA
    piece_bytes: int = 64_000_000
    first_rows: int = 0
    known: tuple[tuple[int, int], ...] = ()


def staggered(manner: Manner, workers: int) -> list[Manner]:
    """Return how each of several workers walks for the first time: first pieces from a whole one down to a quarter.

    Workers that begin together would else have their pieces whole together, again and again, and whoever takes them
    would have nothing to do and then too much.
    """
    rows = manner.piece_rows
    return [replace(manner, first_rows=rows - rows * 3 * number // (4 * workers)) for number in range(workers)]


class Walk:
    """Read one range from its start towards its end, which may come nearer meanwhile."""

    def __init__(self, reader: PageReader, board: Board, mine: Range, manner: Manner) -> None:
        self._reader = reader
        self._board = board
        self._range = mine
        self._manner = manner
        self._start = mine.since_ms  # of the piece being gathered
        self._piece_rows = manner.first_rows or manner.piece_rows
        self._held = Held()
        self._unreadable: list[Unreadable] = []
        self._calls = 0
        self._anchors = 0
        self._trusted_ms = -1
        self._query = self._fresh(mine.since_ms)
        self._way = Way(mine.since_ms)
        self._salvages = 0
        self._stuck = 0

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces of the range, ascending and without a hole between them."""
        while True:
            page = await self._next()
            reached = self._reached()
            if page is not None:
                ended = page.cursor is None and not self._more_behind(page, reached)
                if ended or reached >= self._range.before_ms:
                    self._board.hold(self._range)
                    yield self._cut(self._range.before_ms)
                    return
                if page.cursor is not None:
                    self._query = self._query.at(page.cursor)
            self._board.reach(self._range, reached, self._way.calls_left(reached, self._range.before_ms))
            if page is not None and self._enough() and reached > self._start:
                yield self._cut(reached)

    async def _next(self) -> Page | None:
        """Read the next page into `_held`; None when the walk had to take a new start instead."""
        self._calls += 1
        self._way.calls += 1
        try:
            outcome = await self._reader.page(self._query)
        except CursorDeadError:
            _LOG.warning("cursor no longer accepted, asking again from there")
            self._anchor(self._reached())
            return None
        if isinstance(outcome, Rejection):
            return await self._around(outcome)
        # Asked wider than wanted, a question repeats rows that are held already.
        rows = from_ms_on(outcome.rows, self._query.since_ms)
        if self._shifted(rows):
            return None
        self._held.add(rows)
        self._unreadable += [row for row in outcome.unreadable if row.since_ms >= self._query.since_ms]
        return outcome

    async def _around(self, rejection: Rejection) -> Page | None:
        """Read past rows that the server refuses, then go on behind them."""
        self._board.hold(self._range)  # nobody is to start in a millisecond that is looked at
        salvage = await narrow(self._reader, self._query, rejection, self._reached(), self._range.before_ms)
        self._calls += salvage.calls
        # One odd row says nothing about the rest of the range; a second one does.
        self._way.calls += salvage.calls if self._salvages else 0
        self._salvages += 1
        if salvage.before_ms <= salvage.since_ms:
            self._start_over(salvage.since_ms)
            return None
        self._stuck = 0
        if salvage.fresh:
            self._drop_from(salvage.since_ms)
        elif self._shifted(salvage.rows):
            return None
        self._held.add(salvage.rows)
        self._unreadable += salvage.unreadable
        self._anchors = 0
        if salvage.before_ms >= self._range.before_ms:
            return Page(self._manner.schema.empty_table(), None)
        self._query = self._fresh(salvage.before_ms)
        return None

    def _start_over(self, at_ms: int) -> None:
        """Ask again because the data changed while it was narrowed; not for ever."""
        self._stuck += 1
        if self._stuck > _ANCHORS:
            raise SourceUnavailableError("the server's answers contradict each other; try again later")
        self._drop_from(at_ms)
        self._query = self._fresh(at_ms)

    def _enough(self) -> bool:
        """Say whether what is held is a piece."""
        return self._held.rows >= self._piece_rows or self._held.bytes >= self._manner.piece_bytes

    def _reached(self) -> int:
        """Return the millisecond up to which nothing is missing: the last row's, whose own may go on."""
        newest = self._held.newest_ms
        return max(self._start if newest is None else newest, self._query.since_ms)

    def _shifted(self, rows: pa.Table) -> bool:
        """Notice rows that repeat or go back in time, and start anew before them.

        A cursor that counts rows repeats some when a latecomer slips in before it; without ids a repeated row looks
        like a twin. A fresh question is consistent in itself, so it decides; a true twin costs one call.
        """
        before = self._held.last
        if before is None or not rows.num_rows or self._query.cursor is None:
            return False
        first, last = first_ms(rows), last_ms(before)
        if first > last:
            return False
        if first == last and (first == self._trusted_ms or not _repeats(before, rows, first)):
            return False
        self._trusted_ms = first
        self._anchor(first)
        return True

    def _anchor(self, at_ms: int) -> None:
        """Forget what was read from this millisecond on, and ask for it with a fresh question."""
        self._anchors = self._anchors + 1 if at_ms <= self._query.since_ms else 1
        if self._anchors > _ANCHORS:
            raise ProtocolError("the server does not keep the order of its pages; please report this")
        at_ms = max(at_ms, self._start)
        self._drop_from(at_ms)
        self._query = self._fresh(at_ms)

    def _drop_from(self, at_ms: int) -> None:
        self._held.drop_from(at_ms)
        self._unreadable = [row for row in self._unreadable if row.since_ms < at_ms]

    def _more_behind(self, page: Page, reached: int) -> bool:
        """Probe behind a full page without a cursor: only an answer that is not full makes it the last one."""
        if page.rows.num_rows < self._query.limit:
            return False
        if reached > self._query.since_ms:
            self._anchor(reached)
        else:  # a millisecond that fills a page: the server says that this is all of it
            self._query = self._fresh(reached + 1)
        return True

    def _cut(self, before_ms: int) -> Piece:
        piece = self._held.take(self._manner.schema, self._start, before_ms, self._range.before_ms)
        mine = tuple(
            replace(row, since_ms=max(row.since_ms, self._start))
            for row in self._unreadable
            if row.before_ms <= before_ms
        )
        cut = Piece(self._start, before_ms, ascending(piece), mine, self._calls)
        self._start = before_ms
        self._unreadable = [row for row in self._unreadable if row.before_ms > before_ms]
        self._calls = 0
        self._piece_rows = self._manner.piece_rows
        return cut

    def _fresh(self, since_ms: int) -> Query:
        return Query(
            since_ms,
            self._range.before_ms,
            self._manner.page_size,
            filters=self._manner.filters,
            edges=self._reader.edges,
        )


def _repeats(before: pa.Table, after: pa.Table, at_ms: int) -> bool:
    """Say whether the first row of `after` stands, to the letter, among the rows of that millisecond in `before`."""
    tail = between(before, at_ms, at_ms + 1)["event_raw"]
    return bool(pc.any(pc.equal(tail, after["event_raw"][0])).as_py())
