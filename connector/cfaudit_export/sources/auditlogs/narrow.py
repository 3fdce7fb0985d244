"""A page that the server refuses for an odd row -> every readable row around it, and the row's own millisecond.

The refusal names the positions of the odd rows in the page, nothing else. What stands before the first is had by
asking for just so many rows. The odd row's time is found by asking for ever smaller intervals, which takes calls in
the logarithm of the distance between rows; what stands behind it in its millisecond is had from the other direction,
and what stands between two odd rows of one millisecond by filters that keep them apart (`separate`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import pyarrow as pa

from cfaudit_export.sources.auditlogs.contract import Edges, Query, Rejection
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA, Page
from cfaudit_export.sources.auditlogs.reader import Reader
from cfaudit_export.sources.auditlogs.rows import between, first_ms, last_ms
from cfaudit_export.sources.auditlogs.separate import separate

_LOG = logging.getLogger(__name__)
_GUESS_MS = 60_000
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows that the server refuses to return.

    Attributes:
        since_ms: the millisecond they lie in, or the one before it.
        before_ms: the one after it.
        rows: how many they are.
        reason: the field at fault and the server's word.
        hidden: readable rows of the millisecond that could not be separated from them.
    """

    since_ms: int
    before_ms: int
    rows: int
    reason: str
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Salvage:
    """Milliseconds `[since, before)` read around what is unreadable in them."""

    since_ms: int
    before_ms: int
    rows: pa.Table
    unreadable: tuple[Unreadable, ...]
    calls: int


async def narrow(reader: Reader, query: Query, rejection: Rejection, since_ms: int, before_ms: int) -> Salvage:
    """Read from `since_ms` to the end of the first millisecond that holds unreadable rows, at most to `before_ms`.

    Args:
        reader: asks the questions.
        query: the question whose page was refused.
        rejection: the refusal.
        since_ms: from here on nothing has been read for good.
        before_ms: the end of what is wanted.
    """
    return await _Narrowing(reader, query, before_ms).run(rejection, since_ms)


class _Narrowing:
    def __init__(self, reader: Reader, query: Query, before_ms: int) -> None:
        self._reader = reader
        self._query = query
        self._before = before_ms
        self._calls = 0

    async def run(self, rejection: Rejection, since_ms: int) -> Salvage:
        outcome: Page | Rejection = rejection
        fresh = replace(self._query, since_ms=since_ms, cursor=None, before_ms=self._before, edges=self._reader.edges)
        if fresh != self._query:
            outcome = await self._ask(fresh)
        if isinstance(outcome, Page):
            return self._clean(outcome, since_ms, self._before)
        ahead = await self._prefix(fresh, outcome)
        if isinstance(ahead, Rejection):  # the data changed under our eyes; the walk asks again
            return Salvage(since_ms, since_ms, PAGE_SCHEMA.empty_table(), (), self._calls)
        await self._learn_edges(ahead, since_ms)
        low = max(since_ms, last_ms(ahead)) if ahead.num_rows else since_ms
        at = await self._locate(low, _spacing(ahead))
        return await self._read_to(at, replace(fresh, edges=self._reader.edges), ahead, outcome.issues[0].reason)

    async def _read_to(self, at: int, fresh: Query, ahead: pa.Table, reason: str) -> Salvage:
        """Read from the start of the question to the end of the millisecond that holds the odd row."""
        since_ms = fresh.since_ms
        # Rows before the odd one prove that it is not the margin's. Without any, what lies between must be asked for.
        proven = bool(ahead.num_rows) and last_ms(ahead) >= since_ms
        newest = min(at, self._before - 1)
        for millisecond in range(newest, max(newest - 2, since_ms - 1), -1):
            # A time finer than a millisecond may make the search end one too late.
            here = replace(fresh, since_ms=millisecond, before_ms=millisecond + 1)
            behind = await self._ask(replace(here, direction="desc"))
            if isinstance(behind, Rejection):
                if millisecond > since_ms and not proven:
                    return await self._above_margin(replace(fresh, before_ms=millisecond))
                return await self._read_around(here, behind, since_ms, ahead, reason)
        if at < self._before:
            return Salvage(since_ms, since_ms, PAGE_SCHEMA.empty_table(), (), self._calls)
        if proven:  # the odd row lies in the margin, behind what is wanted
            return self._done(since_ms, self._before, ahead, ())
        return await self._above_margin(fresh)

    async def _ask(self, query: Query) -> Page | Rejection:
        self._calls += 1
        return await self._reader.page(query)

    async def _prefix(self, query: Query, rejection: Rejection) -> pa.Table | Rejection:
        """Read the rows that stand before the first odd one."""
        first = rejection.issues[0].index
        if not first:
            return PAGE_SCHEMA.empty_table()
        outcome = await self._ask(replace(query, limit=first))
        return outcome.rows if isinstance(outcome, Page) else outcome

    def _clean(self, page: Page, since_ms: int, before_ms: int) -> Salvage:
        """Use a page that is fine after all: all of the range, or as far as it reaches."""
        if page.cursor and page.rows.num_rows:
            before_ms = min(last_ms(page.rows), before_ms)
        if before_ms <= since_ms:
            return Salvage(since_ms, since_ms, PAGE_SCHEMA.empty_table(), (), self._calls)
        return self._done(since_ms, before_ms, page.rows, ())

    def _done(self, since_ms: int, before_ms: int, rows: pa.Table, unreadable: tuple[Unreadable, ...]) -> Salvage:
        return Salvage(since_ms, before_ms, between(rows, since_ms, before_ms), unreadable, self._calls)

    async def _above_margin(self, query: Query) -> Salvage:
        """Read a range that is clean itself, while an odd row may lie just before it, within the question."""
        outcome = await self._ask(query)
        if isinstance(outcome, Page):
            return self._clean(outcome, query.since_ms, query.before_ms)
        tight = replace(query, edges=self._reader.tight)
        if isinstance(await self._ask(tight), Page):  # nothing odd before: the first row of all was the odd one
            return self._done(query.since_ms, query.before_ms, PAGE_SCHEMA.empty_table(), ())
        rows = await self._behind(query)
        if rows is not None:
            return self._done(query.since_ms, query.before_ms, rows, ())
        # Odd rows on both sides: the end can only be asked for without the fractions of its last millisecond.
        rows = await self._behind(tight)
        last = query.before_ms - 1
        unsure = Unreadable(last, last + 1, 0, "rows finer than a millisecond may hide between odd rows")
        found = PAGE_SCHEMA.empty_table() if rows is None else rows
        return self._done(query.since_ms, query.before_ms, found, (unsure,))

    async def _behind(self, query: Query) -> pa.Table | None:
        """Read the rows behind the last odd one; None when the odd one is the last of all."""
        newest_first = replace(query, direction="desc")
        outcome = await self._ask(newest_first)
        if isinstance(outcome, Rejection) and outcome.issues[0].index:
            outcome = await self._ask(replace(newest_first, limit=outcome.issues[0].index))
        return outcome.rows if isinstance(outcome, Page) else None

    async def _learn_edges(self, ahead: pa.Table, since_ms: int) -> None:
        """Find out with a row we know whether `since` and `before` include; once in a session."""
        if self._reader.edges != Edges():
            return
        known = last_ms(ahead) if ahead.num_rows else await self._any_row(since_ms)
        if known is None:
            return
        includes = []
        for since, before in ((known, known + 2), (known - 2, known)):
            outcome = await self._ask(replace(self._query, since_ms=since, before_ms=before, cursor=None, edges=_EXACT))
            includes.append(isinstance(outcome, Rejection) or _holds(outcome.rows, known))
        self._reader.edges = Edges.learned(since_includes=includes[0])
        self._reader.tight = Edges(0 if includes[0] else 1, -1 if includes[1] else 0)
        _LOG.info("learned the edges of a question", extra={"since": includes[0], "before": includes[1]})

    async def _any_row(self, since_ms: int) -> int | None:
        """Return the millisecond of any readable row behind, if one is found soon."""
        before = self._before
        for _ in range(_TRIES):
            newest = replace(
                self._query, since_ms=since_ms, before_ms=before, cursor=None, limit=1, direction="desc", edges=Edges()
            )
            outcome = await self._ask(newest)
            if isinstance(outcome, Page) and outcome.rows.num_rows:
                return last_ms(outcome.rows)
            before = since_ms + (before - since_ms) // 2
            if before <= since_ms:
                break
        return None

    async def _locate(self, low: int, step: int) -> int:
        """Return the millisecond of the first odd row at or behind `low`; `before` when there is none."""
        high = self._before
        while low < self._before:  # strides that grow until one meets the odd row
            end = min(low + step, self._before)
            reached = await self._clean_until(low, end)
            if reached < end:
                low, high = reached, end
                break
            low, step = end, step * 4
        else:
            return self._before
        while high - low > 1:  # halves
            middle = (low + high) // 2
            reached = await self._clean_until(low, middle)
            low, high = (middle, high) if reached >= middle else (reached, middle)
        return low

    async def _clean_until(self, low: int, end: int) -> int:
        """Return `end` when `[low, end)` holds no odd row, else how far it is known to hold none."""
        while True:
            probe = replace(self._query, since_ms=low, before_ms=end, cursor=None, edges=self._reader.tight)
            outcome = await self._ask(probe)
            if isinstance(outcome, Rejection):
                return low
            if outcome.cursor is None or not outcome.rows.num_rows or last_ms(outcome.rows) >= end - 1:
                return end
            if last_ms(outcome.rows) <= low:
                return end
            low = last_ms(outcome.rows)

    async def _read_around(
        self, here: Query, behind: Rejection, since_ms: int, ahead: pa.Table, reason: str
    ) -> Salvage:
        """Read what stands behind the odd rows of one millisecond, and between them."""
        at = here.since_ms
        # Where `since` excludes, the question reached into the millisecond before, and the odd row may lie there.
        oldest = at - here.edges.since_ms
        tail = PAGE_SCHEMA.empty_table()
        if behind.issues[0].index:
            outcome = await self._ask(replace(here, direction="desc", limit=behind.issues[0].index))
            tail = outcome.rows if isinstance(outcome, Page) else tail
        rows = pa.concat_tables([between(ahead, since_ms, at + 1), between(tail, oldest, at + 1)])
        odd = len(behind.issues)
        hidden = 0
        first, last = behind.issues[0].index, behind.issues[-1].index
        between_them = last - first + 1 - odd
        if between_them:
            mine = between(rows, oldest, at + 1)
            found = await separate(self._ask, here, mine, between_them + mine.num_rows)
            hidden = between_them + mine.num_rows - found.num_rows
            rows = pa.concat_tables([between(rows, since_ms, oldest), found])
        if odd > 1:
            odd = await self._count(here, odd)
        _LOG.info("narrowed", extra={"calls": self._calls, "at_ms": at, "rows": odd, "reason": reason})
        return self._done(since_ms, at + 1, rows, (Unreadable(oldest, at + 1, odd, reason, hidden),))

    async def _count(self, here: Query, odd: int) -> int:
        """Count the odd rows of this very millisecond; the wider question may have met a neighbour's."""
        outcome = await self._ask(replace(here, edges=self._reader.tight))
        return len(outcome.issues) if isinstance(outcome, Rejection) else odd


_EXACT = Edges(0, 0)


def _spacing(rows: pa.Table) -> int:
    """Guess the milliseconds to the next row: twice the mean distance."""
    if rows.num_rows < 2:
        return _GUESS_MS
    return max(2 * (last_ms(rows) - first_ms(rows)) // int(rows.num_rows - 1), 1)


def _holds(rows: pa.Table, at_ms: int) -> bool:
    return bool(between(rows, at_ms, at_ms + 1).num_rows)
