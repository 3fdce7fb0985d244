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

from cfaudit_export.sources.auditlogs.contract import MOST_ROWS, Edges, Query, Rejection, Unreadable
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA, Page
from cfaudit_export.sources.auditlogs.edges import assume_edges, learn_edges
from cfaudit_export.sources.auditlogs.rows import between, first_ms, last_ms
from cfaudit_export.sources.auditlogs.separate import separate
from cfaudit_export.sources.pages import PageReader

_LOG = logging.getLogger(__name__)
_GUESS_MS = 60_000
_FEW = 100
PROBES = 21  # enough for a millisecond within half an hour; else the gap is longer, and trying again narrows it on


@dataclass(frozen=True, slots=True)
class Salvage:
    """Milliseconds `[since, before)` read around what is unreadable in them.

    `fresh` says that the rows are all from `since` on; else they go on where the cursor of the refused page stood.
    """

    since_ms: int
    before_ms: int
    rows: pa.Table
    unreadable: tuple[Unreadable, ...]
    calls: int
    fresh: bool


async def narrow(reader: PageReader, query: Query, rejection: Rejection, since_ms: int, before_ms: int) -> Salvage:
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
    def __init__(self, reader: PageReader, query: Query, before_ms: int) -> None:
        self._reader = reader
        # The rows of one millisecond should fit into one answer, however small the pages are.
        self._query = replace(query, limit=max(query.limit, MOST_ROWS))
        self._before = before_ms
        self._calls = 0

    async def run(self, rejection: Rejection, since_ms: int) -> Salvage:
        ahead = await self._prefix(self._query, rejection)
        if isinstance(ahead, Rejection):  # the data changed under our eyes; the walk asks again
            return self._nothing(since_ms)
        before = self._reader.edges
        if not before.learned and not await self._know_edges(rejection, ahead, since_ms):
            reason = f"no readable row near; {rejection.issues[0].reason}"
            whole = Unreadable(since_ms, self._before, len(rejection.issues), reason)
            return self._done(since_ms, self._before, PAGE_SCHEMA.empty_table(), (whole,))
        if self._reader.edges != before and self._query.cursor is None and self._reader.edges != self._query.edges:
            return self._nothing(since_ms)  # what was asked wider than need be may be fine when asked again
        low = max(since_ms, last_ms(ahead)) if ahead.num_rows else since_ms
        if low >= self._before:  # the end has come nearer since the page was asked for
            return self._done(since_ms, self._before, ahead, ())
        bracket = await self._locate(low, _spacing(ahead))
        fresh = replace(self._query, since_ms=since_ms, before_ms=self._before, cursor=None, edges=self._reader.edges)
        return await self._read_to(bracket, fresh, ahead, rejection.issues[0].reason)

    async def _know_edges(self, rejection: Rejection, ahead: pa.Table, since_ms: int) -> bool:
        """Find out what the ends of questions include; False when it cannot be found out, and too much hangs on it."""
        if self._reader.edges != Edges() and not ahead.num_rows:
            return True  # assumed before, and still nothing to learn it with
        asked = replace(self._query, since_ms=since_ms, before_ms=self._before)
        if await learn_edges(self._reader, asked, ahead, self._ask):
            return True
        # Without one readable row in reach each odd row costs its own search; that is for a few of them.
        assume_edges(self._reader)
        return len(rejection.issues) < _FEW

    async def _read_to(self, bracket: tuple[int, int] | None, fresh: Query, ahead: pa.Table, reason: str) -> Salvage:
        """Read from the start of the question to the end of the bracket that holds the odd row; None: none does."""
        since_ms = fresh.since_ms
        # Rows before the odd one prove that it is not the margin's. Without any, what lies between must be asked for.
        proven = self._query.cursor is not None or (bool(ahead.num_rows) and last_ms(ahead) >= since_ms)
        # A question that includes its end was blind to the fractions of the millisecond before it, and so to the last.
        clean, end = bracket or (self._before - 1, self._before)
        start = max(clean + self._reader.tight.before_ms, since_ms)
        if start > since_ms and not proven:
            return await self._above_margin(replace(fresh, before_ms=start))
        here = replace(fresh, since_ms=start, before_ms=end)
        behind = await self._ask(replace(here, direction="desc"))
        if isinstance(behind, Rejection) and (bracket or not await self._all_at(end, here, behind)):
            return await self._read_around(here, behind, since_ms, ahead, reason)
        if bracket is not None:
            return self._nothing(since_ms)  # it became readable meanwhile
        # The odd row lies in a margin.
        return self._done(since_ms, self._before, ahead, ()) if proven else await self._above_margin(fresh)

    async def _all_at(self, end_ms: int, here: Query, odd: Rejection) -> bool:
        """Say whether the odd rows are all exactly at an end that the question includes, and so not within it."""
        tight = self._reader.tight
        if tight.since_ms or not tight.before_ms:
            return False
        outcome = await self._ask(replace(here, since_ms=end_ms, before_ms=end_ms + 1, edges=tight))
        return isinstance(outcome, Rejection) and len(outcome.issues) == len(odd.issues)

    async def _anew(self, since_ms: int) -> Salvage:
        """Narrow again with a question that starts where nothing was read, not with a cursor in the middle."""
        self._query = replace(
            self._query, since_ms=since_ms, before_ms=self._before, cursor=None, edges=self._reader.edges
        )
        outcome = await self._ask(self._query)
        if isinstance(outcome, Page):
            return self._clean(outcome, since_ms, self._before)
        return await self.run(outcome, since_ms)

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
            return self._nothing(since_ms)
        return self._done(since_ms, before_ms, page.rows, ())

    def _nothing(self, since_ms: int) -> Salvage:
        return Salvage(since_ms, since_ms, PAGE_SCHEMA.empty_table(), (), self._calls, fresh=True)

    def _done(self, since_ms: int, before_ms: int, rows: pa.Table, unreadable: tuple[Unreadable, ...]) -> Salvage:
        fresh = self._query.cursor is None
        return Salvage(since_ms, before_ms, between(rows, since_ms, before_ms), unreadable, self._calls, fresh)

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

    async def _locate(self, low: int, step: int) -> tuple[int, int] | None:
        """Return an end, behind `low`, at which a question meets no odd row, and one soon after at which it does.

        None when there is no odd row. The two are one millisecond apart, or as near as the allowed probes bring them.
        """
        probes = 1
        clean, odd = low, min(low + step, self._before)
        while not await self._odd_until(low, odd):  # strides that grow until one meets the odd row
            if odd == self._before:
                return None
            clean, step = odd, step * 4
            odd = min(clean + step, self._before)
            probes += 1
        while odd - clean > 1 and probes < PROBES:  # halves
            probes += 1
            middle = (clean + odd) // 2
            clean, odd = (clean, middle) if await self._odd_until(low, middle) else (middle, odd)
        return clean, odd

    async def _odd_until(self, low: int, end: int) -> bool:
        """Say whether `[low, end)` holds an odd row; it may be blind to the last millisecond."""
        while True:
            outcome = await self._ask(
                replace(self._query, since_ms=low, before_ms=end, cursor=None, edges=self._reader.tight)
            )
            if isinstance(outcome, Rejection):
                return True
            if outcome.cursor is None or not outcome.rows.num_rows or last_ms(outcome.rows) <= low:
                return False
            low = last_ms(outcome.rows)

    async def _read_around(
        self, here: Query, behind: Rejection, since_ms: int, ahead: pa.Table, reason: str
    ) -> Salvage:
        """Read what stands behind the odd rows of a bracket, and between them."""
        # Where `since` excludes, the question reached into the millisecond before.
        oldest, end = here.since_ms - here.edges.since_ms, here.before_ms
        tail = PAGE_SCHEMA.empty_table()
        if behind.issues[0].index:
            outcome = await self._ask(replace(here, direction="desc", limit=behind.issues[0].index))
            tail = outcome.rows if isinstance(outcome, Page) else tail
        rows = pa.concat_tables([between(ahead, since_ms, end), between(tail, oldest, end)])
        odd = len(behind.issues)
        between_them = behind.issues[-1].index - behind.issues[0].index + 1 - odd
        hidden = 0
        if between_them and self._query.cursor is not None:
            return await self._anew(since_ms)  # rows of the pages before belong to the count
        if between_them:
            mine = between(rows, oldest, end)
            found = await separate(self._ask, here, mine, between_them + mine.num_rows, examples=ahead)
            hidden = between_them + mine.num_rows - found.num_rows
            rows = pa.concat_tables([between(rows, since_ms, oldest), found])
        start, odd = await self._sharpen(here, odd)
        _LOG.info("narrowed", extra={"calls": self._calls, "at_ms": start, "rows": odd, "reason": reason})
        return self._done(since_ms, end, rows, (Unreadable(start, end, odd, reason, hidden),))

    async def _sharpen(self, here: Query, odd: int) -> tuple[int, int]:
        """Return where the odd rows start, and how many they are, if a narrower question can tell.

        The wider one may have met a neighbour's odd row, or reached into the millisecond before.
        """
        last = here.before_ms - 1
        exact = replace(here, since_ms=last, edges=self._reader.tight)
        if last - here.since_ms > 1 or (self._reader.tight.before_ms == 0 and odd == 1):
            return here.since_ms - here.edges.since_ms, odd
        outcome = await self._ask(exact)
        if isinstance(outcome, Page):
            return here.since_ms - here.edges.since_ms, odd
        if exact.edges.since_ms == 0:
            return last, len(outcome.issues)
        return last - 1, len(outcome.issues)


def _spacing(rows: pa.Table) -> int:
    """Guess the milliseconds to the next row: twice the mean distance."""
    if rows.num_rows < 2:
        return _GUESS_MS
    return max(2 * (last_ms(rows) - first_ms(rows)) // int(rows.num_rows - 1), 1)
