"""A window -> its rows, read another way than a walk does: newest first, by time instead of by cursor.

For `verify`, which must not repeat what a walk may do wrong. Each question ends where the answer before it ended, so
that neither a cursor nor a count nor the size of a page is believed; only an empty answer ends the window. A cursor is
followed inside a single millisecond that fills a page, where there is no other way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from cfaudit_export.core.model import Gap, Window, from_ms
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Rejection
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.rows import ascending, between, first_ms, last_ms

Ask = Callable[[Query], Awaitable[Page | Rejection]]
Span = tuple[int, int]
"""Milliseconds `[since, before)`."""

UNREAD = "could not be read"
# A rejected row is not looked for more closely: `verify` says where it could not look, and a run tells why.
_NARROWEST_MS = 1_000
_MOST_CALLS = 2_000


@dataclass(frozen=True, slots=True)
class Recount:
    """What was read of a window.

    Attributes:
        rows: ascending by time.
        unread: where rows are rejected, or more calls than are allowed would be needed.
        calls: how many calls it took.
    """

    rows: pa.Table
    unread: tuple[Span, ...]
    calls: int


async def read_back(ask: Ask, whole: Query, schema: pa.Schema) -> Recount:
    """Read a window.

    Args:
        ask: answers a question with one page.
        whole: the window, the rows of a page, and the filters.
        schema: the columns of a page.

    Raises what `ask` raises.
    """
    reading = _Reading(ask, whole)
    left = [(whole.since_ms, whole.before_ms)]
    while left:
        left += await reading.step(*left.pop())
    rows = ascending(pa.concat_tables([schema.empty_table(), *reading.parts]))
    return Recount(rows, tuple(sorted(reading.unread)), reading.calls)


def as_extract(window: Window, found: Recount, now: datetime) -> Extract:
    """Return what was read as a source gives it; where it could not look, there are gaps."""
    gaps = tuple(Gap(Window(from_ms(since), from_ms(before)), 0, UNREAD, now, now) for since, before in found.unread)
    return Extract(window, found.rows.combine_chunks(), gaps, now, found.calls)


class _Reading:
    """What was read so far."""

    def __init__(self, ask: Ask, whole: Query) -> None:
        self._ask = ask
        self._whole = whole
        self.parts: list[pa.Table] = []
        self.unread: list[Span] = []
        self.calls = 0

    async def step(self, since_ms: int, before_ms: int) -> list[Span]:
        """Read the newest rows of a span; return what is left of it, the newest last."""
        pages = await self._until_inside(since_ms, before_ms)
        if pages is None:
            return self._halves(since_ms, before_ms)
        rows = between(pages.rows, since_ms, before_ms)
        self.unread += [(row.since_ms, row.before_ms) for row in pages.unreadable]
        if not rows.num_rows:
            return []
        oldest = first_ms(rows)
        if oldest < last_ms(rows):
            self.parts.append(between(rows, oldest + 1, before_ms))
            return [(since_ms, oldest + 1)]
        if pages.cursor is None and pages.rows.num_rows < self._whole.limit:
            self.parts.append(rows)
        else:
            await self._millisecond(oldest)
        return [(since_ms, oldest)] if since_ms < oldest else []

    async def _until_inside(self, since_ms: int, before_ms: int) -> Page | None:
        """Return the first page that reaches into a span, which is asked for a little wider; None without one."""
        query = self._query(since_ms, before_ms)
        while self.calls < _MOST_CALLS:
            page = await self._page(query)
            if page is None:
                return None
            outside = page.rows.num_rows and first_ms(page.rows) >= before_ms
            if page.cursor is None or not outside:
                return page
            query = query.at(page.cursor)
        return None

    async def _millisecond(self, at_ms: int) -> None:
        """Read a millisecond that fills a page to its end, by cursor."""
        query, parts = self._query(at_ms, at_ms + 1), []
        while self.calls < _MOST_CALLS and (page := await self._page(query)) is not None:
            parts.append(between(page.rows, at_ms, at_ms + 1))
            if page.cursor is None:
                self.parts += parts
                return
            query = query.at(page.cursor)
        self.unread.append((at_ms, at_ms + 1))

    async def _page(self, query: Query) -> Page | None:
        self.calls += 1
        try:
            outcome = await self._ask(query)
        except CursorDeadError:
            return None
        return outcome if isinstance(outcome, Page) else None

    def _halves(self, since_ms: int, before_ms: int) -> list[Span]:
        if before_ms - since_ms <= _NARROWEST_MS or self.calls >= _MOST_CALLS:
            self.unread.append((since_ms, before_ms))
            return []
        middle = (since_ms + before_ms) // 2
        return [(since_ms, middle), (middle, before_ms)]

    def _query(self, since_ms: int, before_ms: int) -> Query:
        return replace(self._whole, since_ms=since_ms, before_ms=before_ms, direction="desc", cursor=None)
