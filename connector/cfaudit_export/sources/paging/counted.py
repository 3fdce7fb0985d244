"""A question whose page is refused, and rows that were read of it otherwise -> parts, where counts show these are all.

A refusal names the position of each refused row. So the same question from both ends tells how many rows it has; and
once all the readable ones are there, each refused row stands between two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from cfaudit_export.sources.paging.asking import Asker
from cfaudit_export.sources.paging.evidence import Dark, Part, split_at
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Issue, Padding, Query, Rejection, Unreadable
from cfaudit_export.sources.paging.refused import run_length
from cfaudit_export.sources.paging.rows import NANOSECONDS, ascending, between

Gap = tuple[int, int]
NARROW_MS = 2
"""A gap that is longer reaches from one row to the next."""
_Place = tuple[int, int, int, str]  # first millisecond, the one after the last, refused rows, and why


@dataclass(frozen=True, slots=True)
class Count:
    """What a page holds.

    Attributes:
        question: what was asked.
        issues: its refused rows, from its start on.
        behind: how many rows stand behind the last of them.
    """

    question: Query
    issues: tuple[Issue, ...]
    behind: int

    @property
    def rows(self) -> int:
        """How many readable rows there are."""
        return self.issues[-1].index + 1 + self.behind - len(self.issues)


async def count(asker: Asker, question: Query, refused: Rejection) -> Count | None:
    """Count the rows of a question from both ends; None where they do not fit into one page.

    Args:
        asker: asks the questions.
        question: a question without a cursor.
        refused: its answer, or that of one which begins there and goes further.
    """
    other = await asker.ask(replace(question, direction="desc"))
    if not isinstance(other, Rejection):
        return None
    if len(other.issues) > len(refused.issues):  # the page was a smaller one than pages are by now
        again = await asker.ask(question)
        if not isinstance(again, Rejection):
            return None
        refused = again
    issues = refused.issues[: len(other.issues)]
    total = issues[-1].index + other.issues[0].index
    if len(issues) != len(other.issues) or any(
        one.index + mirrored.index != total for one, mirrored in zip(issues, reversed(other.issues), strict=True)
    ):
        return None
    return Count(question, issues, other.issues[0].index)


async def parts_of(asker: Asker, counted: Count, rows: pa.Table, known: Sequence[Gap]) -> list[Part] | None:
    """Return what the question consists of; None where the rows are not all, or a refused one lies beyond its ends.

    Args:
        asker: asks whether refused rows lie beyond the ends, where that cannot be told else.
        counted: what the page holds.
        rows: rows that were read of it, also those beyond its ends that the page holds.
        known: gaps that are known already; each is the place of a refused row that stands there.
    """
    if rows.num_rows != counted.rows:
        return None
    question, rows = counted.question, ascending(rows)
    places = _places(counted, [at // NANOSECONDS for at in rows["event_time"].cast(pa.int64()).to_pylist()], known)
    if not places:
        return None
    low, high = question.since_ms, question.before_ms
    if places[0][0] < low:
        margin = replace(question, before_ms=low, padding=Padding(question.padding.since_ms, 0))
        if not isinstance(await asker.ask(margin), Page):
            return None
    if places[-1][1] > high:
        margin = replace(question, since_ms=high, padding=Padding(1, question.padding.before_ms))
        if not isinstance(await asker.ask(margin), Page):
            return None
    places = _apart(places, low, high)
    refused = [Unreadable(*place) for place in places]
    return split_at(between(rows, low, high), low, high, refused)


def placed(dark: Dark, places: Sequence[tuple[int, int, int]]) -> list[Part]:
    """Cut a stretch down to where its refused rows are.

    Args:
        dark: the stretch, and all rows of it but the refused ones and those that `hidden` counts.
        places: where the refused rows are, ascending and disjoint: first millisecond, the one after the last, and how
            many rows.

    Raises:
        RuntimeError: the places do not account for every refused row; a fault of the caller.
    """
    if sum(rows for _, _, rows in places) != dark.unreadable.rows or (dark.unreadable.hidden and len(places) != 1):
        raise RuntimeError("the places of refused rows do not add up")
    refused, at = [], dark.since_ms
    for since_ms, before_ms, rows in places:
        refused.append(replace(dark.unreadable, since_ms=max(since_ms, at), before_ms=max(before_ms, at), rows=rows))
        at = refused[-1].before_ms
    return split_at(dark.rows, dark.since_ms, dark.before_ms, refused)


def _places(counted: Count, times: Sequence[int], known: Sequence[Gap]) -> list[_Place]:
    """Return where the refused rows are; none where the known gaps do not account for them."""
    question, issues = counted.question, counted.issues
    places: list[_Place] = []
    number = 0
    while number < len(issues):
        run = run_length(issues, number)
        ahead = issues[number].index - number
        low = times[ahead - 1] if ahead else question.since_ms - question.padding.since_ms
        high = times[ahead] + 1 if ahead < len(times) else question.before_ms + question.padding.before_ms + 1
        mine = [gap for gap in known if low <= gap[0] and gap[1] <= high]
        if any(before - since <= NARROW_MS for since, before in mine) and len(mine) != run:
            return []
        if len(mine) == run:
            places += [(*gap, 1, one.reason) for gap, one in zip(mine, issues[number:], strict=False)]
        else:
            places.append((low, high, run, issues[number].reason))
        number += run
    return places


def _apart(places: Sequence[_Place], low: int, high: int) -> list[_Place]:
    """Return places that are disjoint and within ends. Where two share a millisecond it is counted to the first."""
    apart: list[_Place] = []
    for since, before, rows, reason in places:
        since, before = max(since, apart[-1][1] if apart else low), min(before, high)  # noqa: PLW2901  # as it says
        if since < before:
            apart.append((since, before, rows, reason))
        elif apart:
            last = apart.pop()
            apart.append((*last[:2], last[2] + rows, last[3]))
    return apart
