"""One question -> an answer that was checked: counted, in order, inside what was asked for. Else what is wrong with it.

An answer that fails a check is asked for again. What is wrong with every answer alike is a habit of the server, which
is worked around where that loses nothing, and ends the run with the name of the argument where it cannot be.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.paging.habits import Habits
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Padding, Query, Rejection
from cfaudit_export.sources.paging.reader import PageReader
from cfaudit_export.sources.paging.rows import ascending, first_ms, is_ascending, last_ms, reversed_rows

_LOG = logging.getLogger(__name__)
_TRIES = 3


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why an answer shows nothing, in words for a gap, and how many rows it lacks where that is known."""

    reason: str
    missing: int = 0


_BACKWARD = NoAnswer("the server returns the newest rows first, whatever it is asked")
_FORWARD = NoAnswer("the server returns the oldest rows first, whatever it is asked")
Outcome = Page | Rejection | NoAnswer


class Asker:
    """Asks a reader, and believes nothing unchecked. The rows of a page are ascending, whatever was asked.

    Attributes:
        calls: how many calls were made.
    """

    def __init__(self, reader: PageReader) -> None:
        self.reader = reader
        self.calls = 0

    @property
    def habits(self) -> Habits:
        """What the server has shown of itself."""
        return self.reader.habits

    async def ask(self, query: Query) -> Outcome:
        """Ask one question, and again while the answer contradicts itself.

        Raises:
            CursorDeadError: ask again without the cursor.
            ProtocolError: the server ignores an argument without which nothing can be read.
        """
        fault = NoAnswer("")
        for _ in range(_TRIES):
            self.calls += 1
            outcome = await self.reader.page(query)
            if isinstance(outcome, Rejection):
                return outcome
            checked = await self._checked(query, outcome)
            if isinstance(checked, Page):
                return checked
            fault = checked
            if fault == _BACKWARD and self.habits.newest_first:
                break
        _LOG.warning("the server's answer contradicts itself or the question", extra={"reason": fault.reason})
        if fault == _BACKWARD:
            self.habits.newest_first = True
            self.habits.ignores("direction", "answers come newest first, and are read from the end on")
        return fault

    async def rows(self, query: Query) -> Page | Rejection:
        """Ask a question whose answer is only looked at for the rows in it; a faulty one has none."""
        outcome = await self.ask(query)
        return Page(self.reader.empty, "more") if isinstance(outcome, NoAnswer) else outcome

    async def _checked(self, query: Query, page: Page) -> Page | NoAnswer:
        """Return the page, its rows ascending, or what is wrong with it."""
        rows = page.rows
        if page.count is not None and page.count != (returned := rows.num_rows + sum(x.rows for x in page.unreadable)):
            reason = f"the server counts {page.count} rows and returned {returned}"
            return NoAnswer(reason, max(page.count - returned, 0))
        self.habits.saw(rows)
        if page.asked is not None and rows.num_rows > page.asked:
            self.habits.ignores("limit", "more rows came than were asked for")
        if not rows.num_rows:
            return page
        is_forward = query.direction == "asc"
        if is_ascending(rows):
            if not is_forward and _spans(rows):
                return _FORWARD
        elif is_ascending(backward := reversed_rows(rows)):
            if is_forward:
                return _BACKWARD
            rows = backward
        elif query.cursor is None and self.habits.is_last(page):
            rows = ascending(rows)
        else:
            self.habits.ignores("direction", "answers have no order; only complete ones count")
            return NoAnswer("the server returns rows in no order")
        await self._check_bounds(query, rows)
        return replace(page, rows=rows)

    async def _check_bounds(self, query: Query, rows: pa.Table) -> None:
        """See whether the rows lie inside what was asked for; what lies outside is for the caller to cut."""
        early = query.since_ms - query.padding.since_ms - first_ms(rows)
        late = last_ms(rows) - query.before_ms - query.padding.before_ms
        for argument, outside, row in (("since", early, 0), ("before", late, rows.num_rows - 1)):
            if outside <= 0 or argument in self.habits.ignored:
                continue
            await self._check_membership(query, rows.slice(row, 1), argument)
            self.habits.ignores(argument, "rows outside of the interval asked for are left to their own")

    async def _check_membership(self, query: Query, row: pa.Table, argument: str) -> None:
        """Make sure that a row from outside an interval is found in its own.

        A server that filters by another time than the event's would otherwise never return it.
        """
        at_ms = first_ms(row)
        direction: Literal["asc", "desc"] = "desc" if argument == "since" else "asc"
        own = replace(query, since_ms=at_ms, before_ms=at_ms + 1, cursor=None, direction=direction, padding=Padding())
        self.calls += 1
        outcome = await self.reader.page(own)
        if isinstance(outcome, Page) and not pc.any(pc.equal(outcome.rows["event_raw"], row["event_raw"][0])).as_py():
            raise ProtocolError(
                f"the server does not filter by the time of events: the arguments 'since' and 'before' ('{argument}' "
                "first) select rows of other times, so an interval cannot be read completely; please report this"
            )


def _spans(rows: pa.Table) -> bool:
    """Say whether rows lie in more than one millisecond, so that they have an order."""
    return first_ms(rows) != last_ms(rows)
