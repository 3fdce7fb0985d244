"""Gaps that are known already: read around, and asked for again at the price of one call at most.

A page that meets them is refused, and the refusal says how many rows stand before each refused one. So the rows up to
a gap, once they are read, show by their number that the gap is as it was, and where the next one is to be expected. A
gap of a millisecond is asked for by itself, too: others of its rows may read well by now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cfaudit_export.sources.auditlogs.asking import Asker
from cfaudit_export.sources.auditlogs.contract import Edges, Query, Rejection, Unreadable
from cfaudit_export.sources.auditlogs.decode import Page
from cfaudit_export.sources.auditlogs.evidence import Chain, Dark, Part
from cfaudit_export.sources.auditlogs.reader import CursorDeadError
from cfaudit_export.sources.auditlogs.refused import run_length
from cfaudit_export.sources.auditlogs.stepping import Step

Gap = tuple[int, int]
_NARROW_MS = 2


class Known:
    """The gaps of a stream, in milliseconds."""

    def __init__(self, gaps: Sequence[Gap]) -> None:
        """Take gaps that are ascending and disjoint."""
        self._gaps = tuple(gaps)

    def next(self, at_ms: int, stop_ms: int) -> Gap | None:
        """Return the first gap that ends behind a moment, as far as it lies between the moment and an end."""
        for since, before in self._gaps:
            if before > at_ms and since < stop_ms:
                return max(since, at_ms), min(before, stop_ms)
        return None


async def around(asker: Asker, question: Query, refused: Rejection, gap: Gap) -> Step | None:
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
    if gap[1] - gap[0] <= _NARROW_MS:  # rows that read well by now may stand beside those that are refused
        here = replace(question, since_ms=gap[0], before_ms=gap[1], edges=_up_to_end(asker))
        outcome = await asker.ask(here)
        if isinstance(outcome, Page) and not outcome.rows.num_rows and here.edges != asker.reader.edges:
            # Where questions include their end, one that leaves it out is blind to fractions of a millisecond.
            outcome = await asker.ask(replace(here, edges=asker.reader.edges))
        if not isinstance(outcome, Rejection) or outcome.issues[-1].index + 1 != len(outcome.issues):
            return None
        number = len(outcome.issues)
    rest = tuple(replace(one, index=one.index - first - number) for one in refused.issues[number:])
    return Step([*parts, _dark(asker, gap, refused, number)], Rejection(rest) if rest else None)


def _dark(asker: Asker, gap: Gap, refused: Rejection, rows: int) -> Dark:
    return Dark(Unreadable(*gap, rows, refused.issues[0].reason), asker.reader.empty)


def _up_to_end(asker: Asker) -> Edges:
    """Return the edges of a question that must not meet what lies exactly at its end."""
    return Edges(asker.reader.edges.since_ms, asker.reader.tight.before_ms)


async def _up_to(asker: Asker, question: Query, end_ms: int) -> tuple[list[Part], int] | None:
    """Read up to a moment; return the parts, and how many rows were met."""
    if end_ms == question.since_ms:
        return [], 0
    chain, met = Chain(replace(question, before_ms=end_ms, edges=_up_to_end(asker))), 0
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
