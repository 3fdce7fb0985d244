"""Where a page shows nothing: less time at once, until an answer is sound; what shows nothing at all is left unread."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pyarrow as pa

from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.asking import Asker, NoAnswer
from cfaudit_export.sources.paging.cells import read_cells
from cfaudit_export.sources.paging.disambiguate import separate
from cfaudit_export.sources.paging.evidence import Chain, Dark, Part
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Query, Rejection, Unreadable
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.rows import are_all, between

_FACTOR = 8
_LEVELS = 12  # from a month down to a millisecond
_MORE_MS = 30 * 86_400_000
_LEVELS_OF_THE_HOPELESS = 2
# How much is left unread at least, the first time and each time after it that nothing sound came in between.
_LEFT_MS = (1, 1_000, 3_600_000)
# How many small questions are asked at most before a plain one is tried again.
_MOST_IN_A_ROW = 32
_DENSE = "the millisecond holds more rows than the server's page, and the server gives no cursor"


class Shrinking:
    """Asks for less and less time from a moment on."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._left = 0
        self._width = 0  # with which an answer was sound
        self._in_a_row = 1  # how many small questions to ask before a plain one is tried again

    def reset(self) -> None:
        """Take note that a plain page is sound again."""
        self._left = 0
        self._in_a_row = 1

    async def parts(self, asker: Asker, question: Query, reason: str) -> list[Part]:
        """Return what is read of the start of a question, or the stretch that is left unread, at least a millisecond.

        Args:
            asker: asks the questions.
            question: what is wanted; as a whole its answer was not sound.
            reason: why not.
        """
        whole = question.before_ms - question.since_ms
        width = min(self._width * _FACTOR * 2, whole) or whole
        missing, rows = 0, asker.reader.empty
        for _ in range(_LEVELS_OF_THE_HOPELESS if asker.habits.hopeless else _LEVELS):
            width = max(width // _FACTOR, 1)
            less = replace(question, before_ms=question.since_ms + width)
            if width == 1:
                less = replace(less, limit=max(less.limit, MOST_ROWS))
            outcome = await asker.ask(less)
            if isinstance(outcome, Page):
                chain = Chain(less)
                chain.add(outcome, ended=asker.habits.is_last(outcome))
                if parts := chain.take(asker.reader.empty.schema):
                    self._width = width
                    return parts + await self._more(asker, replace(question, since_ms=parts[-1].before_ms))
                rows = between(outcome.rows, less.since_ms, less.before_ms)
            elif isinstance(outcome, NoAnswer):
                reason, missing = outcome.reason, outcome.missing
            else:
                reason, missing = outcome.issues[0].reason, len(outcome.issues)
                if width == 1:
                    if cells := await self._cells(asker, less, rows):
                        return cells
                    rows = await _around(asker, less, outcome)
            if width == 1:
                break
        return [self._left_unread(asker, question, width, Unreadable(0, 0, missing, reason), rows)]

    async def _cells(self, asker: Asker, question: Query, rows: pa.Table) -> list[Part] | None:
        return await read_cells(asker, question, examples=rows, allowance=self._allowance)

    async def _more(self, asker: Asker, question: Query) -> list[Part]:
        """Return what further questions of the width that works show, until one shows nothing.

        Where plain pages stay faulty, each try of one costs several calls; so it is tried more and more seldom.
        """
        parts: list[Part] = []
        for _ in range(1, self._in_a_row):
            at = parts[-1].before_ms if parts else question.since_ms
            less = replace(question, since_ms=at, before_ms=min(at + self._width, question.before_ms))
            outcome = await asker.ask(less) if at < question.before_ms else None
            if not isinstance(outcome, Page):
                break
            chain = Chain(less)
            chain.add(outcome, ended=asker.habits.is_last(outcome))
            if not (read := chain.take(asker.reader.empty.schema)):
                break
            parts += read
        self._in_a_row = min(self._in_a_row * 2, _MOST_IN_A_ROW)
        return parts

    def _left_unread(self, asker: Asker, question: Query, width: int, why: Unreadable, rows: pa.Table) -> Dark:
        at, end = question.since_ms, question.before_ms
        if asker.habits.hopeless or self._left >= len(_LEFT_MS):
            asker.habits.hopeless += 1
            width = end - at
        else:
            width = min(max(width, _LEFT_MS[self._left]), end - at)
        self._left += 1
        return Dark(replace(why, since_ms=at, before_ms=at + width), between(rows, at, at + width))


async def _around(asker: Asker, question: Query, refused: Rejection) -> pa.Table:
    """Return the rows of a refused question before its first refused row, and those behind its last one."""
    ahead, other = await _ahead(asker, question, refused), replace(question, direction="desc")
    outcome = await asker.ask(other)
    if isinstance(outcome, Rejection) and len(outcome.issues) == len(refused.issues):
        ahead += await _ahead(asker, other, outcome)
    return pa.concat_tables([asker.reader.empty, *ahead])


async def _ahead(asker: Asker, question: Query, refused: Rejection) -> list[pa.Table]:
    first = refused.issues[0].index
    page = await asker.ask(replace(question, limit=first)) if first else None
    return [page.rows] if isinstance(page, Page) else []


async def dense(asker: Asker, question: Query, page: Page, allowance: Allowance) -> list[Part]:
    """Return the first millisecond of a question, which holds more rows than a page, and the page has no cursor.

    From the end on come the last of them, and filters may find more; that these are all cannot be shown.
    """
    at = question.since_ms
    here = replace(question, before_ms=at + 1, cursor=None)
    rows = between(page.rows, at, at + 1)
    made = asker.calls

    async def ask(query: Query) -> Page | Rejection:
        spent = asker.calls - made
        return await asker.rows(query) if spent < allowance.separating else Page(asker.reader.empty, None)

    found = await separate(ask, here, rows, None, examples=rows)
    allowance.separating -= asker.calls - made
    return [Dark(Unreadable(at, at + 1, 0, _DENSE), found)]


async def is_whole(asker: Asker, query: Query, page: Page) -> bool:
    """Say whether a first page without a cursor shows every row of its question.

    The same rows come when they are asked for from the end on, which a page that is cut cannot do. Rows of one
    millisecond that are equal to the letter do not show it: there a larger page, of more time, earlier or later, has to
    show that this one was not cut.
    """
    other = await asker.ask(replace(query, direction="desc"))
    if isinstance(other, Page) and other.rows.num_rows == page.rows.num_rows:
        if are_all(page.rows, other.rows):
            return True
        texts = (sorted(rows["event_raw"].to_pylist()) for rows in (page.rows, other.rows))
        if page.rows.num_rows and next(texts) == next(texts):
            earlier = replace(query, since_ms=max(query.since_ms - _MORE_MS, 0), direction="desc")
            for more in (earlier, replace(query, before_ms=query.before_ms + _MORE_MS)):
                await asker.ask(more)
                if asker.habits.is_last(page):
                    return True
    asker.habits.cuts(page)
    return False


async def same_from_the_end(asker: Asker, chain: Chain, question: Query) -> list[Part]:
    """Return the first millisecond of a question, where cursors led through it and lead back through the same rows.

    Pages that are cut on the way would give other rows from the end on. Nothing when they differ, or cannot be told
    apart.
    """
    at, schema = question.since_ms, asker.reader.empty.schema
    back = Chain(replace(question, before_ms=at + 1, direction="desc"))
    texts = sorted(chain.rows_of(schema, at)["event_raw"].to_pylist())
    while back.rows <= len(texts):
        try:
            page = await asker.ask(back.query)
        except CursorDeadError:
            return []
        if not isinstance(page, Page) or page.unreadable or back.repeats(page.cursor) or back.empties > 1:
            return []
        back.add(page, ended=page.cursor is None)
        if back.ended:
            is_same = (
                len(set(texts)) == len(texts) and sorted(back.rows_of(schema, at)["event_raw"].to_pylist()) == texts
            )
            return back.take(schema) if is_same else []
    return []


async def from_the_end(asker: Asker, question: Query, piece_rows: int) -> AsyncIterator[list[Part]]:
    """Yield the parts of a question of a server that only answers newest first: pieces of them, the last one first."""
    schema, before = asker.reader.empty.schema, question.before_ms
    while before > question.since_ms:
        chain = Chain(replace(question, before_ms=before, direction="desc", padding=asker.reader.padding))
        reason = "the server returns the newest rows first, and no less than this"
        while not chain.ended and chain.rows < piece_rows:
            try:
                outcome = await asker.ask(chain.query)
            except CursorDeadError:
                break
            if not isinstance(outcome, Page):
                reason = outcome.reason if isinstance(outcome, NoAnswer) else outcome.issues[0].reason
                break
            if chain.shifted(outcome.rows) is not None or chain.repeats(outcome.cursor):
                break
            chain.add(outcome, ended=asker.habits.is_last(outcome))
            if outcome.cursor is None or not outcome.rows.num_rows:
                break
        parts = chain.take(schema)
        if not parts:
            yield [Dark(Unreadable(question.since_ms, before, 0, reason), asker.reader.empty)]
            return
        yield parts
        before = parts[0].since_ms
