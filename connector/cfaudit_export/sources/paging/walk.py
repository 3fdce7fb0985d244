"""A range of time -> pieces: every row exactly once, cut on milliseconds, whatever cursors, edges and ties do.

The walk reads page by page in a chain. Where a page is refused it steps over the refused rows (`stepping`); where it
shows nothing it asks for less (`shrinking`); what is known to be unreadable it reads around (`known`). Each of them
gives parts with their evidence, and pieces are made of these alone (`evidence`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.asking import Asker, NoAnswer
from cfaudit_export.sources.paging.bounds import learned_once
from cfaudit_export.sources.paging.estimate import RemainingCalls
from cfaudit_export.sources.paging.evidence import Chain, Part, Piece, clipped, joined
from cfaudit_export.sources.paging.known import FEW, Known, around, between_all
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Query, Rejection
from cfaudit_export.sources.paging.reader import CursorDeadError, PageReader
from cfaudit_export.sources.paging.rows import first_ms, last_ms
from cfaudit_export.sources.paging.shrinking import Shrinking, dense, from_the_end, is_whole, same_from_the_end
from cfaudit_export.sources.paging.sifting import Sifting
from cfaudit_export.sources.paging.stepping import StepOutcome, step
from cfaudit_export.sources.paging.work_queue import Range, WorkQueue

_LOG = logging.getLogger(__name__)
_TRIES, _EMPTY_PAGES = 3, 10  # that lead nowhere: questions from one moment; empty pages one after another
_NOTHING = "the server returns rows of other times only"
# What was learned is handed on at least so often, so that a run that is stopped again and again gets on.
_MOST_CALLS, _MOST_SECONDS = 200, 60.0
_LARGE_ROW_BYTES, _SMALLER = 8_000, 4  # pieces of rows so large are so much smaller


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """How to walk.

    Attributes:
        page_size: rows asked for per page.
        piece_rows: rows after which a piece is handed on.
        filters: the filters of the stream.
        piece_bytes: bytes after which a piece is handed on; each worker gathers one, one waits, one is delivered.
        first_rows: rows after which the first piece of a walk is handed on; 0 for `piece_rows`.
        known: gaps that are known already, `[since, before)` in milliseconds, ascending and disjoint. The walk reads
            around each, at the price of a call for the rows before it, and one more for a gap of a millisecond or two.
        allowance: calls for details of refused rows, which walks share.
    """

    page_size: int
    piece_rows: int
    filters: tuple[tuple[str, str], ...] = ()
    piece_bytes: int = 16_000_000
    first_rows: int = 0
    known: tuple[tuple[int, int], ...] = ()
    allowance: Allowance | None = None


def staggered(options: WalkOptions, workers: int) -> list[WalkOptions]:
    """Return how each of several workers walks for the first time: first pieces from a whole one down to a quarter.

    Workers that begin together would otherwise complete their pieces together, again and again, and the consumer
    would have nothing to do and then too much.
    """
    rows = options.piece_rows
    return [replace(options, first_rows=rows - rows * 3 * number // (4 * workers)) for number in range(workers)]


class Walk:
    """Read one range from its start towards its end, which may come nearer meanwhile."""

    def __init__(
        self,
        reader: PageReader,
        queue: WorkQueue,
        mine: Range,
        options: WalkOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build a walk; `clock` counts seconds."""
        self._asker = Asker(reader)
        self._schema = reader.empty.schema
        self._queue, self._range, self._options = queue, mine, options
        self._clock = clock
        self._allowance = options.allowance or Allowance()
        self._piece_rows = options.first_rows or options.piece_rows
        self._known = Known(options.known)
        self._shrinking = Shrinking(self._allowance)
        self._sifting = Sifting(self._allowance)
        self._remaining = RemainingCalls(mine.since_ms)
        self._parts: list[Part] = []
        self._at = mine.since_ms  # the end of `_parts`
        self._trusted_ms: int | None = None
        self._chain = self._anew()
        self._outcome: Page | Rejection | None = None  # of the chain's question, where it was asked already
        self._tries = 0
        self._steps = 0
        self._per_row = 0.0  # milliseconds
        self._told = (0, clock())

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces of the range, without a hole between them: ascending, if the server can answer so."""
        while not self._asker.habits.is_backward:
            await self._advance()
            reached = max(self._chain.reached, self._at)
            if reached >= self._range.before_ms:
                self._queue.pin(self._range)
                yield self._cut()
                return
            self._queue.progress(self._range, reached, self._remaining.calls_left(reached, self._range.before_ms))
            if self._enough() and reached > (self._parts[0].since_ms if self._parts else self._at):
                yield self._cut()
        self._queue.pin(self._range)
        if self._parts:
            yield self._cut()
        async for parts in from_the_end(self._asker, self._question(self._at), self._options.piece_rows):
            yield self._piece(parts)

    async def _advance(self) -> None:
        """Make one step: a page, or past what is no page."""
        made = self._asker.calls
        chain = self._chain
        outcome: Page | Rejection | NoAnswer
        try:
            outcome = self._outcome or await self._asker.ask(chain.query)
        except CursorDeadError:
            _LOG.warning("cursor no longer accepted, asking again from there")
            await self._again("the server does not accept its own cursors")
            return
        finally:
            self._outcome = None
        if isinstance(outcome, Page):
            await self._page(outcome)
        elif isinstance(outcome, Rejection):
            await self._refused(outcome)
        elif not self._asker.habits.is_backward:
            await self._less(outcome.reason)
        # One rejected row says nothing about the rest of the range; a second one does.
        if not isinstance(outcome, Rejection) or self._steps > 1:
            self._remaining.calls += self._asker.calls - made

    async def _page(self, page: Page) -> None:
        """Add a page to the chain, unless it contradicts the pages before."""
        chain = self._chain
        if (first := chain.shifted(page.rows)) is not None:
            await self._doubted(first)
            return
        if chain.repeats(page.cursor) or chain.empties >= _EMPTY_PAGES:
            await self._less("the server's cursors lead back to pages already read, or to endless empty ones")
            return
        chain.add(page, ended=self._asker.habits.is_last(page))
        if page.rows.num_rows:
            self._shrinking.reset()
        if page.cursor is None and not chain.ended:
            await self._behind(page)

    async def _behind(self, page: Page) -> None:
        """Find out whether a page without a cursor is the last one, where its size does not tell."""
        chain, last = self._chain, self._chain.last_ms
        is_first, is_dense = chain.query.cursor is None, last is not None and last <= chain.since_ms
        if (page.unreadable and not page.rows.num_rows) or (
            is_first
            and (is_dense or self._asker.habits.may_be_whole(page))
            and await is_whole(self._asker, chain.query, page)
        ):
            chain.ended = True
        elif last is None or (is_dense and not is_first and chain.query.limit < MOST_ROWS):
            await self._again(_NOTHING)
            self._chain.query = replace(self._chain.query, limit=MOST_ROWS)
        elif not is_dense:
            self._take()
            self._chain = self._anew()
        elif is_first or (same := await same_from_the_end(self._asker, chain, self._question(self._at))):
            self._queue.pin(self._range)
            question = self._question(self._at)
            self._add(await dense(self._asker, question, page, self._allowance) if is_first else same)
            self._chain = self._anew()
        else:
            await self._less("a millisecond holds more rows than the server's page, and the server gives no cursor")

    async def _doubted(self, first_ms: int) -> None:
        """Ask anew from a millisecond in which a row repeats; one that repeats again there is a twin."""
        self._trusted_ms = first_ms
        await self._again("the server repeats rows from page to page", first_ms)

    async def _again(self, reason: str, at_ms: int | None = None) -> None:
        """Ask anew from the last millisecond that is read for certain; not for ever."""
        before = self._at
        self._take(at_ms)
        self._tries = self._tries + 1 if self._at <= before else 0
        if self._tries > _TRIES:
            self._tries = 0
            await self._less(reason)
        else:
            self._chain = self._anew()

    async def _less(self, reason: str) -> None:
        """Ask for less where a whole page shows nothing, and leave unread what shows nothing at all."""
        self._take()
        self._queue.pin(self._range)
        question = self._question(self._at)
        self._add(await self._shrinking.parts(self._asker, question, reason))
        self._chain = self._anew()

    async def _refused(self, rejection: Rejection) -> None:
        """Read past rows that the server refuses."""
        self._queue.pin(self._range)  # no worker is to start in a millisecond that is looked at
        if await self._counted(rejection):
            return
        chain, before, stop = self._chain, self._asker.reader.padding, self._range.before_ms
        ahead = await learned_once(self._asker, chain, self._question(self._at), rejection)
        gap = self._known.next(max(chain.reached, self._at), stop)
        narrower = self._asker.reader.padding != before and chain.last_ms is None and not rejection.issues[0].index
        if narrower or chain.query.before_ms != stop or (gap is not None and chain.last_ms is not None):
            # Asked for less it may be fine; refused rows behind an end that came nearer would be taken for others; and
            # positions have to count from the start of a question to show that a gap is a known one.
            self._take()
            self._chain = self._anew()
            return
        if gap is not None and (known := await around(self._asker, self._question(self._at), rejection, gap)):
            self._went_on(known)
            return
        self._steps += 1
        done = await step(
            self._asker, chain, rejection, stop_ms=stop, allowance=self._allowance, per_row=self._per_row, ahead=ahead
        )
        if done.parts:
            self._went_on(done)
        elif done.doubted_ms is not None:
            await self._doubted(done.doubted_ms)
        else:
            await self._again("the server's answers contradict each other")

    async def _counted(self, rejection: Rejection) -> bool:
        """Read past all refused rows of a page, where counts and few questions do."""
        known, is_worth = self._known.within(self._at, self._range.before_ms), self._sifting.is_worth(rejection)
        self._allowance.sharpening *= not is_worth  # which so many rows are not worth
        if not known and not is_worth:
            return False
        if self._chain.query != (question := self._question(self._at)):
            self._take()
            self._chain = self._anew()
            return True
        parts: list[Part] = []
        if 0 < len(known) <= FEW:
            parts = await between_all(self._asker, question, rejection, known)
            self._known.fails += not parts
        if is_worth and not parts:
            parts = await self._sifting.parts(self._asker, question, rejection, known)
        if parts:
            self._went_on(StepOutcome(parts))
        return bool(parts)

    def _went_on(self, step: StepOutcome) -> None:
        self._tries = 0
        self._add(step.parts)
        self._chain, self._outcome = self._anew(), step.outcome

    def _enough(self) -> bool:
        """Say whether what was read is a piece."""
        chain, (calls, at) = self._chain, self._told
        rows = chain.rows + sum(part.rows.num_rows for part in self._parts)
        size = chain.bytes + sum(part.rows.nbytes for part in self._parts)
        is_large = size * (_SMALLER if size > rows * _LARGE_ROW_BYTES else 1) >= self._options.piece_bytes
        if is_large or rows >= self._piece_rows:
            return True
        return self._asker.calls - calls >= _MOST_CALLS or self._clock() - at >= _MOST_SECONDS

    def _take(self, end_ms: int | None = None) -> None:
        """Take from the chain what is read for certain."""
        self._add(self._chain.take(self._schema, end_ms))

    def _add(self, parts: list[Part]) -> None:
        if mine := clipped(parts, self._at, self._range.before_ms):
            self._parts += mine
            self._at = mine[-1].before_ms
            rows = max((part.rows for part in mine), key=len)
            if len(rows) > 2:
                self._per_row = max((last_ms(rows) - first_ms(rows)) / (len(rows) - 1), 0.1)

    def _cut(self) -> Piece:
        self._take()
        parts, self._parts = self._parts, []
        return self._piece(parts)

    def _piece(self, parts: list[Part]) -> Piece:
        piece = joined(parts, self._schema, self._asker.calls - self._told[0])
        self._told = (self._asker.calls, self._clock())
        self._piece_rows = self._options.piece_rows
        return piece

    def _anew(self) -> Chain:
        return Chain(self._question(self._at), self._trusted_ms)

    def _question(self, since_ms: int) -> Query:
        options, padding = self._options, self._asker.reader.padding
        return Query(since_ms, self._range.before_ms, options.page_size, filters=options.filters, padding=padding)
