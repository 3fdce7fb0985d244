"""Many refused rows in one page: what filters return instead, which no refused row meets.

The refusal says which field is at fault. A filter on that field with a value that the server knows returns no such
row, and the values of a filter are disjoint. So a few questions read all rows of a page, however many refused ones
stand between them, and the count of the page shows that these are all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.asking import Asker
from cfaudit_export.sources.paging.counted import Count, Gap, count, parts_of
from cfaudit_export.sources.paging.disambiguate import Multiset
from cfaudit_export.sources.paging.evidence import Part
from cfaudit_export.sources.paging.facets import CANDIDATES, Filter, facet_of
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Issue, Query, Rejection
from cfaudit_export.sources.paging.rows import NANOSECONDS, ascending, between, first_ms, last_ms

MANY = 5
"""Refused rows of a page; of fewer each is worth the calls for its very millisecond."""
_FACETS = 2
_ALSO = ("actor_context", "actor_type", "action_type")  # what a row lacks as a rule that lacks another
_HALVES = 4
_APART_MS = 4  # nothing stands so near to a cut, whatever the ends of a question include


class Sifting:
    """Reads pages with many refused rows by filters, as long as that works."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._is_at_lack = False
        self._pages: dict[Filter, _Answer] = {}

    def is_worth(self, refused: Rejection) -> bool:
        """Say whether so many rows are refused that it pays, and nothing is known to lack at the start of the page."""
        if self._is_at_lack:
            self._is_at_lack = False
            return False
        return self._allowance.sifting > 0 and _runs(refused.issues) >= MANY and any(_facets(refused, ()))

    async def parts(self, asker: Asker, question: Query, refused: Rejection, known: Sequence[Gap]) -> list[Part]:
        """Read from the start of a question on, a page at most; return nothing where filters do not do.

        Args:
            asker: asks the questions.
            question: what was refused, without a cursor.
            refused: the refusal.
            known: gaps that are known already.
        """
        question = replace(question, limit=max(question.limit, MOST_ROWS))
        found = _Found(asker.reader.empty, question.before_ms)
        counted: Count | None = None
        for facet, values in list(_facets(refused, question.filters))[:_FACETS]:
            found.add([await self._ask(asker, question, (facet, value)) for value in values])
            end = found.end(question.before_ms, question.limit - len(refused.issues))
            if counted is None or counted.question.before_ms != end:
                counted = await self._counted(asker, question, refused, end)
            if counted is None or found.has_all(counted):
                break
        if counted is not None and not found.has_all(counted):
            counted = await self._up_to_lack(asker, counted, found)
        end = 0 if counted is None else counted.question.before_ms
        parts = None if counted is None else await parts_of(asker, counted, found.rows_before(end), known)
        self._allowance.sifting -= not parts
        return parts or []

    async def _up_to_lack(self, asker: Asker, whole: Count, found: _Found) -> Count | None:
        """Halve a page until it is known up to where nothing lacks, which has to be past some refused rows."""
        question, refused = whole.question, Rejection(whole.issues)
        low, high = 0, found.rows_before(question.before_ms).num_rows
        best: Count | None = None
        for _ in range(_HALVES):
            middle = (low + high) // 2
            counted = await self._counted(asker, question, refused, found.end(question.before_ms, middle))
            if counted is None or not found.has_all(counted):
                high = middle
            else:
                low, best = middle, counted
        self._is_at_lack = True
        return best if best is not None and _runs(best.issues) >= MANY - 2 else None

    async def _counted(self, asker: Asker, question: Query, refused: Rejection, end: int) -> Count | None:
        return await count(asker, replace(question, before_ms=end), refused) if end > question.since_ms else None

    async def _ask(self, asker: Asker, question: Query, one: Filter) -> _Answer:
        """Ask for a value from the start of the question on, unless that was asked for already, up to its end."""
        known = self._pages.get(one)
        if known is not None and known.reached_ms == question.before_ms and known.since_ms <= question.since_ms:
            rows = between(known.rows, question.since_ms - _APART_MS, question.before_ms + _APART_MS)
            if not rows.num_rows or first_ms(rows) >= question.since_ms + _APART_MS:
                return replace(known, rows=rows)
        outcome = await asker.rows(replace(question, filters=(*question.filters, one)))
        answer = _Answer(question.since_ms, asker.reader.empty, 0)
        if isinstance(outcome, Page):
            last = last_ms(outcome.rows) if outcome.rows.num_rows else 0
            reached = question.before_ms if outcome.cursor is None else last
            answer = self._pages[one] = _Answer(question.since_ms, outcome.rows, reached)
        return answer


@dataclass(frozen=True, slots=True)
class _Answer:
    """The rows that have a value, from a moment on up to another one; 0 where they are refused."""

    since_ms: int
    rows: pa.Table
    reached_ms: int


class _Found:
    """What filters returned, and up to where that is all of it."""

    def __init__(self, empty: pa.Table, before_ms: int) -> None:
        self._empty = empty
        self._reached = self._before = before_ms
        self._all = Multiset(empty)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._all)

    def add(self, answers: Sequence[_Answer]) -> None:
        """Add the rows of the values of a filter; not if a row comes for two of them, which casts doubt on it."""
        texts = [set(one.rows["event_raw"].to_pylist()) for one in answers]
        if sum(map(len, texts)) != len(set().union(*texts)):
            return
        mine = Multiset(self._empty)
        for one in answers:
            mine.add(one.rows)
        self._all.raise_to(mine)
        self._reached = min([self._reached, *(one.reached_ms for one in answers if one.reached_ms)])

    def end(self, before_ms: int, most: int) -> int:
        """Return a moment up to which there are no more than so many rows, and that nothing stands close to."""
        times = [at // NANOSECONDS for at in ascending(self._all.table())["event_time"].cast(pa.int64()).to_pylist()]
        if self._reached >= before_ms and len(times) <= most:
            return before_ms
        for number in range(min(most, len(times) - 1), 0, -1):
            if times[number - 1] + _APART_MS <= times[number] <= self._reached:
                return int(times[number - 1]) + _APART_MS // 2
        return 0

    def rows_before(self, end_ms: int) -> pa.Table:
        """Return the rows up to a moment that `end` gave."""
        rows = ascending(self._all.table())
        if end_ms >= self._before:
            return rows
        return rows.filter(pc.less(rows["event_time"].cast(pa.int64()), end_ms * NANOSECONDS))

    def has_all(self, counted: Count) -> bool:
        """Say whether these are as many rows as the page has."""
        return int(self.rows_before(counted.question.before_ms).num_rows) == counted.rows


def _facets(refused: Rejection, filters: Sequence[tuple[str, str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the filters that leave refused rows out, and further ones that may do so as well; the best first."""
    given = {name for name, _ in filters}
    at_fault = Counter(facet_of(one.field) for one in refused.issues)
    named = [name for name, _ in at_fault.most_common() if name in CANDIDATES]
    if not named:
        return
    for name in dict.fromkeys([*named, *_ALSO]):
        if name not in given:
            yield name, CANDIDATES[name][::-1]  # the page size adapts with the first rows, which few have


def _runs(issues: Sequence[Issue]) -> int:
    """Count runs of refused rows that stand next to each other."""
    return 1 + sum(other.index != one.index + 1 for one, other in pairwise(issues))
