"""Rows that the server refuses to return -> what it admits of them: how many there are, and which filters they meet.

A refused page names every rejected row in it. The same question with a filter tells how many of them meet the filter.
What all rejected rows of a millisecond share is certain of each of them; nothing else is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa

from cfaudit_export.core.model import from_ms
from cfaudit_export.sources.auditlogs.spans import Interval
from cfaudit_export.sources.paging.facets import Filter
from cfaudit_export.sources.paging.page import TIME, Page
from cfaudit_export.sources.paging.query import MOST_ROWS, Query, Rejection, Unreadable

# Columns that can be anything: what is common among the rows around is worth asking for.
_LIKELY = ("actor_email", "actor_token_name", "resource_product", "resource_type")
_GUESSES = 6
_NARROW_MS = 2  # in which the very millisecond of a row can be told
_FEW = 2  # rejected rows, of which each is asked for alone
MOST_CALLS = 60  # that one millisecond can cost, and where there are many, all of them together

Ask = Callable[[Query], Awaitable[Page | Rejection]]


class _EnoughError(Exception):
    """What may be asked of single milliseconds has been asked."""


@dataclass(slots=True)
class RejectedRows:
    """The rejected rows of milliseconds, counted by filter; every count is asked for once.

    Attributes:
        ask: asks a question.
        plain: the question for the whole piece, padded as little as its ends allow.
        left: how many more counts may be asked for; None for any number.
    """

    ask: Ask
    plain: Query
    left: int | None = None
    _counts: dict[tuple[int, tuple[Filter, ...]], int] = field(default_factory=dict)
    _facts: dict[Filter, list[tuple[Interval, int]]] = field(default_factory=dict)

    def question(self, at_ms: int, *filters: Filter) -> Query:
        """Return the question for one millisecond and nothing beside it."""
        return replace(
            self.plain,
            since_ms=at_ms,
            before_ms=at_ms + 1,
            limit=MOST_ROWS,
            filters=(*self.plain.filters, *filters),
        )

    def note(self, query: Query, outcome: Page | Rejection) -> None:
        """Remember an answer that says how many rejected rows there are, for all askers."""
        filters = query.filters[len(self.plain.filters) :]
        if query == self.question(query.since_ms, *filters):
            self._counts[query.since_ms, filters] = len(outcome.issues) if isinstance(outcome, Rejection) else 0

    def learn(self, interval: Interval, one: Filter, rejected: int) -> None:
        """Remember how many rejected rows of an interval meet a filter."""
        self._facts.setdefault(one, []).append((interval, rejected))

    def _follows(self, at_ms: int, filters: tuple[Filter, ...]) -> int | None:
        """Return what is known of a millisecond because all rejected rows of an interval meet a filter, or none."""
        if len(filters) != 1 or (at_ms, ()) not in self._counts:
            return None
        for interval, rejected in self._facts.get(filters[0], ()):
            if interval.since_ms <= at_ms < interval.before_ms and rejected in (0, interval.rejected):
                return self._counts[at_ms, ()] if rejected else 0
        return None

    async def ask_of_all(self, intervals: Sequence[Interval], one: Filter) -> None:
        """Ask how many rejected rows of intervals meet a filter; where all or none do, one question is enough."""
        for interval in intervals:
            asked = replace(
                self.plain,
                since_ms=interval.since_ms,
                before_ms=interval.before_ms,
                filters=(*self.plain.filters, one),
            )
            outcome = await self.ask(asked)
            self.learn(interval, one, len(outcome.issues) if isinstance(outcome, Rejection) else 0)

    async def count(self, at_ms: int, *filters: Filter) -> int:
        """Return how many rejected rows of the millisecond meet the filters."""
        if (known := self._follows(at_ms, filters)) is not None:
            return known
        if (at_ms, filters) not in self._counts:
            if self.left is not None:
                if not self.left:
                    raise _EnoughError
                self.left -= 1
            query = self.question(at_ms, *filters)
            self.note(query, await self.ask(query))
        return self._counts[at_ms, filters]

    async def shared(self, at_ms: int, total: int, name: str, values: tuple[str, ...]) -> str | None:
        """Return the value of a filter that all rejected rows of the millisecond have; None when none is certain."""
        left, found = total, None
        for value in values:
            if not left:
                break
            try:
                met = await self.count(at_ms, (name, value))
            except _EnoughError:
                return None
            found = value if met == total else found
            left -= met
        return found if not left else None

    async def millisecond_of(self, rejected: Unreadable) -> int | None:
        """Return the millisecond in which all rows of a gap lie, None when that is not certain."""
        last, padding = rejected.before_ms - 1, self.plain.padding
        if (
            not rejected.rows
            or rejected.before_ms - rejected.since_ms > _NARROW_MS
            or (padding.since_ms and padding.before_ms)
        ):
            return None
        if rejected.before_ms - rejected.since_ms == 1 and padding.learned:
            self._counts.setdefault((last, ()), rejected.rows)
            return last
        if self.left == 0:
            return None
        if padding.since_ms:  # excludes, so that the question reaches into the fractions of the millisecond before
            reached = replace(self.question(last), before_ms=last)
            if isinstance(await self.ask(reached), Rejection):
                return None
        return last if await self.count(last) else None


async def cast_shadows(
    rows: RejectedRows,
    gaps: tuple[Unreadable, ...],
    facets: Mapping[str, tuple[str, ...]],
    near: pa.Table,
    may_spend: Callable[[int], bool],
    *,
    intervals: Sequence[Interval] = (),
) -> pa.Table | None:
    """Return what is certain of unreadable rows, one row each: `event_time` and texts by filter; None for nothing.

    Args:
        rows: counts rejected rows.
        gaps: where they are.
        facets: filters and their values.
        near: readable rows around.
        may_spend: says whether so many calls may be made.
        intervals: where several rejected rows may be asked for at once.
    """
    gaps = tuple(rejected for rejected in gaps if rejected.before_ms - rejected.since_ms <= _NARROW_MS)
    if not gaps:
        return None
    guesses = {name: _common(near, name) for name in _LIKELY if name not in dict(rows.plain.filters)}
    times: list[datetime] = []
    known: list[dict[str, str]] = []
    shared = [interval for interval in intervals if len(interval.holes) > _FEW]
    for one in ((name, value) for name, values in guesses.items() for value in values):
        if shared and may_spend(MOST_CALLS):
            await rows.ask_of_all(shared, one)
    rows.left = MOST_CALLS if shared else None
    for rejected in gaps:
        if not may_spend(MOST_CALLS) or (at_ms := await rows.millisecond_of(rejected)) is None:
            continue
        total = await rows.count(at_ms)
        found = {
            name: value
            for name, values in {**facets, **guesses}.items()
            if (value := await rows.shared(at_ms, total, name, values)) is not None
        }
        if found:
            times += [from_ms(at_ms)] * total
            known += [found | dict(rows.plain.filters)] * total
    if not times:
        return None
    names = sorted({name for one in known for name in one})
    columns = {name: pa.array([one.get(name) for one in known], pa.string()) for name in names}
    return pa.table({"event_time": pa.array(times, TIME), **columns})


def _common(near: pa.Table, name: str) -> tuple[str, ...]:
    counted = Counter(value for value in near[name].to_pylist() if value)
    return tuple(value for value, _ in counted.most_common(_GUESSES))
