"""A few milliseconds with refused rows in them -> their rows, by counting alone.

Questions that differ in their start only, one for each millisecond, end with the same rows. So the position of the last
refused row tells how many rows lie between their starts, readable and refused, whatever the ends include and however
fine times are. What lies between two such starts is a cell: a millisecond, or where `since` excludes, the end of one
and the very start of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.asking import Asker
from cfaudit_export.sources.paging.counted import count
from cfaudit_export.sources.paging.disambiguate import separate
from cfaudit_export.sources.paging.evidence import Part, split_at
from cfaudit_export.sources.paging.page import TIME, Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Issue, Padding, Query, Rejection, Unreadable
from cfaudit_export.sources.paging.rows import NANOSECONDS

MOST_CELLS = 4
_NO_MORE = Rejection((Issue(0, "", "no calls left"),))


class _MismatchError(Exception):
    """An answer does not fit to the counts."""


@dataclass(frozen=True, slots=True)
class _From:
    """What there is from the start of a cell on: how many rows, which of them are refused, and all where none is."""

    total: int
    issues: tuple[Issue, ...]
    page: Page | None = None


async def read_cells(asker: Asker, question: Query, *, examples: pa.Table, allowance: Allowance) -> list[Part] | None:
    """Return what a short question consists of; None where its answers do not add up, or do not fit into a page.

    Args:
        asker: asks the questions.
        question: what is wanted, of a few milliseconds at most.
        examples: rows from around, whose products, types and actors are worth asking for.
        allowance: calls that may yet be spent on readable rows between refused ones.
    """
    cells = _Cells(asker, question, examples, allowance)
    try:
        return await cells.parts() if await cells.counted() else None
    except _MismatchError:
        return None


class _Cells:
    def __init__(self, asker: Asker, question: Query, examples: pa.Table, allowance: Allowance) -> None:
        self._asker = asker
        self._low, self._end = question.since_ms, question.before_ms
        self._edge = asker.reader.padding.since_ms
        self._examples = examples
        self._allowance = allowance
        # Where `since` excludes, what lies exactly at the start of a millisecond is in the cell of the one before.
        self._cells = range(self._low, self._end + self._edge)
        self._plain = replace(
            question,
            before_ms=self._cells.stop + 1,
            limit=max(question.limit, MOST_ROWS),
            padding=Padding(self._edge, 0),
            direction="asc",
            cursor=None,
        )
        self._from: dict[int, _From] = {}
        self._tables = [asker.reader.empty]
        self._dark: list[Unreadable] = []

    async def counted(self) -> bool:
        """Ask from the start of each cell on; say whether the answers tell how many rows each has."""
        whole = await self._asker.ask(self._plain)
        page = await count(self._asker, self._plain, whole) if isinstance(whole, Rejection) else None
        if page is None:
            return False
        self._from[self._low] = _From(page.issues[-1].index + 1 + page.behind, page.issues)
        for cell in (*self._cells[1:], self._cells.stop):
            before = self._from[cell - 1]
            if before.page is not None and not before.page.rows.num_rows:
                self._from[cell] = before
                continue
            outcome = await self._asker.ask(replace(self._plain, since_ms=cell))
            if isinstance(outcome, Rejection):
                self._from[cell] = _From(outcome.issues[-1].index + 1 + page.behind, outcome.issues)
            elif isinstance(outcome, Page) and outcome.cursor is None and not outcome.unreadable:
                self._from[cell] = _From(outcome.rows.num_rows, (), outcome)
            else:
                return False
        return all(self._fits(cell) for cell in self._cells)

    def _fits(self, cell: int) -> bool:
        mine, behind = self._from[cell], self._from[cell + 1]
        rows, refused = self._sizes(cell)
        return 0 <= refused <= rows and [one.index - rows for one in mine.issues[refused:]] == [
            one.index for one in behind.issues
        ]

    def _sizes(self, cell: int) -> tuple[int, int]:
        """Return how many rows a cell has, and how many of them are refused."""
        mine, behind = self._from[cell], self._from[cell + 1]
        return mine.total - behind.total, len(mine.issues) - len(behind.issues)

    async def parts(self) -> list[Part]:
        """Read what can be read, and name the rest."""
        for cell in self._cells:
            rows, refused = self._sizes(cell)
            if refused:
                await self._refused(cell, rows, self._from[cell].issues[:refused])
            else:
                await self._first(cell, rows)
        rows = pa.concat_tables(self._tables).sort_by("event_time")
        return split_at(rows, self._low, self._end, self._dark)

    async def _first(self, cell: int, rows: int) -> pa.Table:
        """Read the first rows of a cell, of which none is refused."""
        page = self._from[cell].page
        if page is None and rows:
            outcome = await self._asker.ask(replace(self._plain, since_ms=cell, limit=rows))
            page = outcome if isinstance(outcome, Page) and outcome.rows.num_rows == rows else None
            if page is None or page.unreadable:
                raise _MismatchError
        found = self._asker.reader.empty if page is None else page.rows.slice(0, rows)
        self._tables.append(found)
        return found

    async def _refused(self, cell: int, rows: int, issues: Sequence[Issue]) -> None:
        """Read a cell around its refused rows."""
        found = [await self._first(cell, issues[0].index)]
        if rows - 1 - issues[-1].index:
            found += await self._behind(cell)
        known = pa.concat_tables(found)
        readable = rows - len(issues)
        if known.num_rows > readable:
            raise _MismatchError
        if known.num_rows < readable:
            self._tables[-1:] = [await self._separated(cell, known, readable)]
        else:
            self._tables[-1:] = [known]
        hidden = readable - self._tables[-1].num_rows
        self._name(Unreadable(cell - self._edge, cell + 1, len(issues), issues[0].reason, hidden))

    async def _behind(self, cell: int) -> list[pa.Table]:
        """Read rows behind a refused one of a cell, as many as can be met from the end on."""
        # From an end that is behind the cell or its own, all rows behind the last refused one are met, or none; from
        # one within, those behind another refused row. None of them is before the first one either way.
        is_exact = not self._edge and not self._asker.reader.exclusive.before_ms
        for before in (cell + 1,) if is_exact else (cell + 1, cell):
            question = replace(self._plain, since_ms=cell, before_ms=before, direction="desc")
            outcome = await self._asker.ask(question)
            if not isinstance(outcome, Rejection) or not (first := outcome.issues[0].index):
                continue
            page = await self._asker.ask(replace(question, limit=first))
            if not isinstance(page, Page) or page.rows.num_rows != first:
                raise _MismatchError
            if (mine := self._mine(cell, page.rows)).num_rows:
                return [mine]
        return []

    def _mine(self, cell: int, rows: pa.Table) -> pa.Table:
        """Return the rows of a cell; where it is in doubt what ends include, those that are within it anyway."""
        first = (cell - self._edge) * NANOSECONDS + self._edge
        end = first + NANOSECONDS - (self._edge and not self._asker.reader.padding.learned)
        low, high = (pa.scalar(at, pa.int64()).cast(TIME) for at in (first, end))
        times = rows["event_time"]
        return rows.filter(pc.and_(pc.greater_equal(times, low), pc.less(times, high)))

    async def _separated(self, cell: int, known: pa.Table, total: int) -> pa.Table:
        """Read by filters what stands between the refused rows of a cell."""
        made = self._asker.calls

        async def ask(query: Query) -> Page | Rejection:
            if self._asker.calls - made >= self._allowance.separating:
                return _NO_MORE
            outcome = await self._asker.rows(query)
            return outcome if isinstance(outcome, Rejection) else replace(outcome, rows=self._mine(cell, outcome.rows))

        here = replace(self._plain, since_ms=cell, before_ms=cell + 1)
        found = await separate(ask, here, known, total, examples=pa.concat_tables([known, self._examples]))
        self._allowance.separating -= self._asker.calls - made
        return found

    def _name(self, one: Unreadable) -> None:
        """Add a stretch that is not read, joined to the one before where they overlap."""
        one = replace(one, since_ms=max(one.since_ms, self._low), before_ms=min(one.before_ms, self._end))
        if self._dark and one.since_ms < self._dark[-1].before_ms:
            last = self._dark.pop()
            one = replace(last, before_ms=one.before_ms, rows=last.rows + one.rows, hidden=last.hidden + one.hidden)
        self._dark.append(one)
