"""Gaps that are known already: read around, and asked for again at the price of one call at most.

A page that meets them is refused, and the refusal says how many rows stand before each refused one. So the rows up to
a gap, once they are read, show by their number that the gap is as it was, and where the next one is to be expected. A
gap of a millisecond is asked for by itself, too: others of its rows may read well by now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa

from cfaudit_export.sources.paging.asking import Asker, Outcome
from cfaudit_export.sources.paging.counted import NARROW_MS, Gap, count, parts_of
from cfaudit_export.sources.paging.evidence import Chain, Dark, Part
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Padding, Query, Rejection, Unreadable
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.refused import run_length
from cfaudit_export.sources.paging.stepping import StepOutcome

FEW = 30
"""Gaps up to which it is better to read between them than to use filters, which may lack rows."""


class Known:
    """The gaps of a stream, in milliseconds.

    Attributes:
        fails: how often they were not all that a page was refused for.
    """

    def __init__(self, gaps: Sequence[Gap]) -> None:
        """Take gaps that are ascending and disjoint."""
        self._gaps = tuple(gaps)
        self.fails = 0

    def next(self, at_ms: int, stop_ms: int) -> Gap | None:
        """Return the first short gap that ends behind a moment, as far as it lies between the moment and an end.

        A gap that is longer was not narrowed to its end, and trying it again goes on with that.
        """
        for since, before in self._gaps:
            if before - since <= NARROW_MS and before > at_ms and since < stop_ms:
                return max(since, at_ms), min(before, stop_ms)
        return None

    def within(self, since_ms: int, before_ms: int) -> tuple[Gap, ...]:
        """Return the gaps that lie between two moments, as long as they were found to be all that is refused there."""
        inside = (
            gap for gap in self._gaps if since_ms <= gap[0] and gap[1] <= before_ms and gap != (since_ms, before_ms)
        )
        return () if self.fails else tuple(inside)


async def between_all(asker: Asker, question: Query, refused: Rejection, gaps: Sequence[Gap]) -> list[Part]:
    """Read what stands between gaps, where they are all that the page was refused for.

    The counts show that, whatever the ends of questions include; so nothing else needs to be asked.

    Args:
        asker: asks the questions.
        question: what was refused, without a cursor.
        refused: the refusal.
        gaps: all known gaps within the question.

    Returns:
        What the question consists of; nothing when it is not so.
    """
    first = refused.issues[0].index
    # The rows before the first one come first: by their size, pages become as large as pages may be.
    ahead = await asker.ask(replace(question, limit=first)) if first else None
    counted = await count(asker, question, refused)
    if counted is None or counted.issues[0].index != first or len(gaps) > len(counted.issues):
        return []
    behind, issues = counted.behind, counted.issues
    rest = await asker.ask(replace(question, limit=behind, direction="desc")) if behind else None
    tables = [asker.reader.empty]
    for rows, page in ((first, ahead), (behind, rest)):
        if page is not None and not _is_whole(page, rows):
            return []
        tables += [page.rows] if isinstance(page, Page) else []
    number = 0
    for gap, other in pairwise(gaps):
        behind = number + run_length(issues, number)
        rows = issues[behind].index - issues[behind - 1].index - 1 if behind < len(issues) else 0
        page = await _rows_between(asker, _between(question, gap, other), rows)
        number = behind if isinstance(page, Page) and page.rows.num_rows else number + 1
        if not isinstance(page, Page) or number >= len(issues):
            return []
        if not _is_whole(page, issues[number].index - issues[number - 1].index - 1):
            return []
        tables.append(page.rows)
    return await parts_of(asker, counted, pa.concat_tables(tables), gaps) or []


async def _rows_between(asker: Asker, stretch: Query, rows: int) -> Outcome:
    """Read so many rows between two gaps, though a refused one may share its millisecond with the first or last."""
    outcome = await asker.ask(stretch)
    if not isinstance(outcome, Rejection) or not rows:
        return outcome
    return await asker.ask(replace(stretch, limit=rows, direction="desc" if not outcome.issues[0].index else "asc"))


def _between(question: Query, gap: Gap, other: Gap) -> Query:
    """Return the question for what stands between two gaps; a wide gap has a row at its end that is to be met."""
    is_wide, other_is_wide = (one[1] - one[0] > NARROW_MS for one in (gap, other))
    since, before = gap[1] - is_wide, other[0] + other_is_wide
    padding = Padding(1 if is_wide else 0, 0 if other_is_wide else -1)
    return replace(question, since_ms=since, before_ms=max(before, since + 1), padding=padding)


def _is_whole(page: Outcome, rows: int) -> bool:
    return isinstance(page, Page) and not page.unreadable and page.rows.num_rows == rows


async def around(asker: Asker, question: Query, refused: Rejection, gap: Gap) -> StepOutcome | None:
    """Read up to a gap and past it, where it is what a question was refused for.

    Args:
        asker: asks the questions.
        question: what was refused, without a cursor.
        refused: the refusal.
        gap: the first known gap within the question.

    Returns:
        The rows up to the gap and the gap; None when it is not all that stands in the way.
    """
    before_gap = await _up_to(asker, question, gap[0])
    if before_gap is None:
        return None
    parts, rows = before_gap
    first, number = refused.issues[0].index, run_length(refused.issues)
    if rows != first:
        return None
    if gap[1] - gap[0] <= NARROW_MS:  # rows that read well by now may stand beside those that are refused
        here = replace(question, since_ms=gap[0], before_ms=gap[1], padding=_up_to_end(asker))
        outcome = await asker.ask(here)
        if isinstance(outcome, Page) and not outcome.rows.num_rows and here.padding != asker.reader.padding:
            # Where questions include their end, one that leaves it out is blind to fractions of a millisecond. From
            # the end on, it shows that no row that reads well stands behind those that are refused.
            here = replace(here, padding=asker.reader.padding)
            outcome = await asker.ask(here)
            if not _begins_refused(await asker.ask(replace(here, direction="desc"))):
                return None
        if not isinstance(outcome, Rejection) or not _begins_refused(outcome):
            return None
        number = len(outcome.issues)
    rest = tuple(replace(one, index=one.index - first - number) for one in refused.issues[number:])
    return StepOutcome([*parts, _dark(asker, gap, refused, number)], Rejection(rest) if rest else None)


def _begins_refused(outcome: Outcome) -> bool:
    """Say whether no row of a page stands before or between those that it was refused for."""
    return isinstance(outcome, Rejection) and outcome.issues[-1].index + 1 == len(outcome.issues)


def _dark(asker: Asker, gap: Gap, refused: Rejection, rows: int) -> Dark:
    return Dark(Unreadable(*gap, rows, refused.issues[0].reason), asker.reader.empty)


def _up_to_end(asker: Asker) -> Padding:
    """Return the padding of a question that must not meet what lies exactly at its end."""
    return Padding(asker.reader.padding.since_ms, asker.reader.exclusive.before_ms)


async def _up_to(asker: Asker, question: Query, end_ms: int) -> tuple[list[Part], int] | None:
    """Read up to a moment; return the parts, and how many rows were met."""
    if end_ms == question.since_ms:
        return [], 0
    chain, met = Chain(replace(question, before_ms=end_ms, padding=_up_to_end(asker))), 0
    while True:
        try:
            page = await asker.ask(chain.query)
        except CursorDeadError:
            return None
        if not isinstance(page, Page) or chain.shifted(page.rows) is not None or page.unreadable:
            return None
        met += page.rows.num_rows
        if page.cursor is None or not page.rows.num_rows:
            # Whether that is all of them, their number has to tell.
            chain.add(page, ended=True)
            return chain.take(asker.reader.empty.schema), met
        chain.add(page, ended=False)
