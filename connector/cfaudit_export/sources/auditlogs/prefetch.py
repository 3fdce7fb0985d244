"""The pages of a filter, read on from piece to piece of a walk instead of anew for each piece.

The last page that a piece needs of a filter reaches beyond the piece. What it holds beyond is kept for the next
piece, and the page after it is asked for only then. So a filter that nothing meets costs one call a walk, and one that
little meets hardly more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.paging.facets import Filter
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Rejection
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.rows import between, from_ms_on, last_ms
from cfaudit_export.sources.paging.work_queue import Range

NEEDED = ["event_time", "event_raw"]


@dataclass(slots=True)
class _Course:
    """How far a filter is read: the next page, None at the end; before which moment all is read; what is not taken."""

    query: Query | None
    reached_ms: int
    rows: pa.Table


class FilterPrefetch:
    """What one walk has read of its filters."""

    def __init__(self, mine: Range) -> None:
        """Build it for the range of the walk."""
        self._range = mine
        self._courses: dict[Filter, _Course] = {}
        self._refused: set[Filter] = set()

    async def take(
        self, ask: Callable[[Query], Awaitable[Page | Rejection]], one: Filter, piece: Query
    ) -> tuple[pa.Table, int]:
        """Return the rows of a piece that meet a filter, and before which millisecond these are all.

        That is the piece's end, unless a page is refused: the caller reads what lies behind, as the rejected row
        may lie behind the piece. A filter that was refused is not read ahead again.
        """
        course = self._courses.pop(one, None)
        if course is None or course.reached_ms < piece.since_ms:
            if one in self._refused:
                return PAGE_SCHEMA.empty_table().select(NEEDED), piece.since_ms
            course = self._from(piece, one)
        read = [course.rows]
        while course.query is not None and course.reached_ms < piece.before_ms:
            try:
                outcome = await ask(course.query)
            except CursorDeadError:
                return between(pa.concat_tables(read), piece.since_ms, course.reached_ms), course.reached_ms
            if isinstance(outcome, Rejection):
                self._refused.add(one)
                return between(pa.concat_tables(read), piece.since_ms, course.reached_ms), course.reached_ms
            if outcome.rows.num_rows:
                read.append(outcome.rows.select(NEEDED))
                course.reached_ms = max(last_ms(outcome.rows), course.reached_ms)
            if outcome.cursor is None:
                course.reached_ms = course.query.before_ms
                course.query = None
            else:
                course.query = course.query.at(outcome.cursor)
        rows = pa.concat_tables(read)
        course.rows = from_ms_on(rows, piece.before_ms)
        self._courses[one] = course
        return between(rows, piece.since_ms, piece.before_ms), piece.before_ms

    def _from(self, piece: Query, one: Filter) -> _Course:
        before_ms = max(self._range.before_ms, piece.before_ms)
        query = replace(piece, before_ms=before_ms, filters=(*piece.filters, one))
        return _Course(query, piece.since_ms, PAGE_SCHEMA.empty_table().select(NEEDED))
