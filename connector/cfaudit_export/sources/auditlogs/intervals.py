"""Which readable rows of an interval have a value, where rejected rows make the server refuse the page.

A refusal names the position of every rejected row in a page. The same question from both ends tells how many rows there
are, readable and rejected, and nothing needs to be read. The values of one filter are disjoint: all but one are read
around their rejected rows, and the rows that are left, if they are just as many as have the last value, have that one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pyarrow as pa

from cfaudit_export.sources.auditlogs.spans import Interval
from cfaudit_export.sources.paging.facets import Filter
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Rejection
from cfaudit_export.sources.paging.rows import between

Ask = Callable[[Query], Awaitable[Page | Rejection]]


@dataclass(slots=True)
class FilterFindings:
    """What is known of the rows of an interval by one filter.

    Attributes:
        interval: the interval.
        values: texts of rows by value.
        rejected: rejected rows by value.
        left: rows whose value is not known.
        counted: values of which it is known only how many rows have them.
        parts: rejected rows by value in parts of the interval, as far as that was found out.
    """

    interval: Interval
    values: dict[str, list[str]] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    left: int = 0
    counted: dict[str, _Count] = field(default_factory=dict)
    parts: list[tuple[Interval, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.interval.rows.num_rows


@dataclass(frozen=True, slots=True)
class _Count:
    """How many rows of an interval have a value.

    Attributes:
        rows: readable ones.
        first: how many rows, of both kinds, stand before each rejected one.
        last: how many stand behind each rejected one, that of the last rejected one first.
    """

    rows: int
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()

    @property
    def rejected(self) -> int:
        """Return how many odd ones there are."""
        return len(self.first)


def _count(first: tuple[int, ...], last: tuple[int, ...]) -> _Count | None:
    """Return the count that two refusals of one interval tell; None where they are not of the same rows."""
    if not first or len(first) != len(last) or first[-1] + last[0] != first[0] + last[-1]:
        return None
    return _Count(first[-1] + 1 + last[0] - len(first), first, last)


class ValueReader:
    """Asks for one value of a filter after the other."""

    def __init__(self, ask: Ask, plain: Query, apart: tuple[Filter, ...] = ()) -> None:
        """Build it.

        Args:
            ask: asks a question.
            plain: the question for the whole piece.
            apart: values of a filter that no rejected row has, as far as is known.
        """
        self._ask = ask
        self._plain = plain
        self._apart = apart

    async def ask_for(self, found: FilterFindings, one: Filter) -> bool:
        """Find out which rows have a value, or at least how many; say whether that leaves any row out."""
        here, value = found.interval, one[1]
        answer = await self._ask_of(here, one)
        if isinstance(answer, _Count):
            found.counted[value], found.rejected[value] = answer, answer.rejected
            found.left -= answer.rows
            return answer.rows + answer.rejected < int(here.rows.num_rows) + here.rejected
        if answer is None:
            return False
        found.values[value], found.rejected[value] = answer, 0
        found.left -= len(answer)
        return len(answer) < int(here.rows.num_rows)

    async def resolve(self, found: FilterFindings, name: str) -> None:
        """Say of rows whose value is only counted which ones have it."""
        if found.left < 0:  # the values are not disjoint, so that nothing follows
            return
        for value in sorted(found.counted, key=lambda value: found.rejected[value]):
            known = Counter(text for texts in found.values.values() for text in texts)
            rows = found.interval.rows
            is_open = pa.array([not _counts_off(known, text) for text in rows["event_raw"].to_pylist()], pa.bool_())
            here = replace(found.interval, rows=rows.filter(is_open))
            found.values[value] = await self._having(found, here, (name, value), found.counted[value])

    async def _having(self, found: FilterFindings, here: Interval, one: Filter, count: _Count) -> list[str]:
        """Return the texts of those of the rows of an interval that have a value; some may not be found."""
        found.parts.append((here, one[1], count.rejected))
        if not count.rows:
            return []
        if count.rows == here.rows.num_rows:
            texts: list[str] = here.rows["event_raw"].to_pylist()
            return texts
        if not count.rejected:
            outcome = await self._whole(self._question(here, one))
            return _texts(outcome, here) if isinstance(outcome, pa.Table) else []
        if count.rejected > len(self._apart) // 2 and (apart := await self._kept_apart(here, one, count)):
            return apart
        halves = here.halves() if count.rejected > 1 else ()
        if len(halves) < 2:
            return await self._around(here, one, count)
        return await self._in_halves(found, halves, one, count)

    async def _kept_apart(self, here: Interval, one: Filter, count: _Count) -> list[str]:
        """Ask with a further filter that rejected rows do not meet; return all rows that have the value, else none."""
        texts: list[str] = []
        query = self._question(here, one)
        for other in self._apart:
            outcome = await self._whole(replace(query, filters=(*query.filters, other)))
            if not isinstance(outcome, pa.Table):
                return []
            texts += _texts(outcome, here)
            if len(texts) >= count.rows:
                break
        return texts if len(texts) == count.rows else []

    async def _in_halves(
        self, found: FilterFindings, halves: tuple[Interval, ...], one: Filter, count: _Count
    ) -> list[str]:
        """Ask for the first half; what is so of the second one follows."""
        outcome = await self._whole(replace(self._question(halves[0], one), direction="desc"))
        if isinstance(outcome, pa.Table):
            found.parts.append((halves[0], one[1], 0))
            texts = _texts(outcome, halves[0])
            rows, rejected = len(texts), 0
        else:
            last = tuple(issue.index for issue in outcome.issues) if outcome else ()
            half = _count(count.first[: len(last)], last)
            if half is None or half.rows > count.rows:
                return []  # the data changed under our eyes
            texts = await self._having(found, halves[0], one, half)
            rows, rejected = half.rows, half.rejected
        rest = tuple(index - rows - rejected for index in count.first[rejected:])
        second = _count(rest, count.last[: len(rest)]) if rest else _Count(count.rows - rows)
        if second is None or second.rows != count.rows - rows:
            return texts
        return texts + await self._having(found, halves[1], one, second)

    async def _ask_of(self, here: Interval, one: Filter) -> list[str] | _Count | None:
        """Return the texts of the rows of an interval that have a value, else how many they are, None for neither."""
        query = self._question(here, one)
        outcome = await self._whole(query)
        if outcome is None or isinstance(outcome, pa.Table):
            return None if outcome is None else _texts(outcome, here)
        other = await self._ask(replace(query, direction="desc"))
        if not isinstance(other, Rejection):
            return None
        first, last = (tuple(issue.index for issue in refusal.issues) for refusal in (outcome, other))
        count = _count(first, last)
        return count if count and count.rejected <= here.rejected else None

    async def _whole(self, query: Query) -> pa.Table | Rejection | None:
        """Read all pages of a question, which are one as a rule; None when a later one is refused."""
        tables: list[pa.Table] = []
        while True:
            outcome = await self._ask(query)
            if isinstance(outcome, Rejection):
                return None if tables else outcome
            tables.append(outcome.rows)
            if outcome.cursor is None or not outcome.rows.num_rows:
                return pa.concat_tables(tables)
            query = query.at(outcome.cursor)

    async def _around(self, here: Interval, one: Filter, count: _Count) -> list[str]:
        """Read the rows before the first rejected one and those behind the last: all where it is the only one."""
        query, texts = self._question(here, one), []
        for limit, asked in ((count.first[0], query), (count.last[0], replace(query, direction="desc"))):
            if limit:
                outcome = await self._ask(replace(asked, limit=limit))
                if isinstance(outcome, Rejection) or outcome.rows.num_rows != limit:
                    return []  # the data changed under our eyes
                texts += _texts(outcome.rows, here)
        return texts

    def _question(self, here: Interval, one: Filter) -> Query:
        filters = (*self._plain.filters, one)
        return replace(self._plain, since_ms=here.since_ms, before_ms=here.before_ms, filters=filters)


def _texts(rows: pa.Table, here: Interval) -> list[str]:
    texts: list[str] = between(rows, here.since_ms, here.before_ms)["event_raw"].to_pylist()
    return texts


def _counts_off(known: Counter[str], text: str) -> bool:
    if not known[text]:
        return False
    known[text] -= 1
    return True
