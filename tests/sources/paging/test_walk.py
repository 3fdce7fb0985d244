"""Several walks over one log in memory, with a queue that cuts them up while their pages are on the way."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise

import anyio
import anyio.lowlevel
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.evidence import Piece
from cfaudit_export.sources.paging.facets import CANDIDATES
from cfaudit_export.sources.paging.habits import Habits
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Issue, Padding, Query, Rejection
from cfaudit_export.sources.paging.walk import Walk, WalkOptions, staggered
from cfaudit_export.sources.paging.work_queue import Range, WorkQueue

END_MS = 2000
PAGE = 10


@dataclass
class Log:
    """One row in each of some milliseconds; a page that holds an odd one is refused. Answers take their time."""

    times: list[int]
    odd: set[int]
    slowness: list[int]
    since_includes: bool = True
    before_includes: bool = False
    padding: Padding = field(default_factory=Padding)
    exclusive: Padding = field(default_factory=Padding)
    asked: int = 0
    habits: Habits = field(default_factory=Habits)
    empty: pa.Table = field(default_factory=PAGE_SCHEMA.empty_table)

    async def page(self, query: Query) -> Page | Rejection:
        self.asked += 1
        for _ in range(self.slowness[self.asked % len(self.slowness)]):
            await anyio.lowlevel.checkpoint()
        first = bisect_left(self.times, query.since_ms - query.padding.since_ms + (not self.since_includes))
        end = bisect_left(self.times, query.before_ms + query.padding.before_ms + self.before_includes)
        found = self.times[first:end]
        if query.direction == "desc":
            found.reverse()
        at = int(query.cursor or 0)
        rows = found[at : at + query.limit]
        if issues := tuple(Issue(place, "field", "odd") for place, time in enumerate(rows) if time in self.odd):
            return Rejection(issues)
        more = at + query.limit < len(found)
        return Page(table(rows), str(at + query.limit) if more else None)


def table(times: list[int]) -> pa.Table:
    columns = {name: pa.array([str(time) for time in times], pa.string()) for name in PAGE_SCHEMA.names}
    columns["event_time"] = pa.array([time * 1_000_000 for time in times], pa.timestamp("ns", tz="UTC"))
    return pa.table(columns, schema=PAGE_SCHEMA)


@dataclass
class Reading:
    """All that some workers read of a log."""

    log: Log
    workers: int
    options: WalkOptions
    ranges: list[Range]
    pieces: list[Piece] = field(default_factory=list)

    def done(self) -> Reading:
        anyio.run(self._all)
        return self

    async def _all(self) -> None:
        queue = WorkQueue(self.ranges, self.workers, worth_calls=1)
        async with anyio.create_task_group() as group:
            for options in staggered(self.options, self.workers):
                group.start_soon(self._work, queue, options)

    async def _work(self, queue: WorkQueue, options: WalkOptions) -> None:
        while (mine := await queue.next()) is not None:
            async for piece in Walk(self.log, queue, mine, options).pieces():
                await anyio.lowlevel.checkpoint()
                self.pieces.append(piece)
            await queue.done()

    @property
    def rows(self) -> list[int]:
        return sorted(int(text) for piece in self.pieces for text in piece.rows["event_raw"].to_pylist())


@given(
    times=st.lists(st.integers(0, END_MS - 1), max_size=150, unique=True).map(sorted),
    odd=st.lists(st.integers(0, END_MS - 1), max_size=6),
    slowness=st.lists(st.integers(0, 5), min_size=1, max_size=7),
    workers=st.integers(1, 6),
    page=st.integers(1, 12),
    cuts=st.lists(st.integers(1, END_MS - 1), max_size=2),
    includes=st.tuples(st.booleans(), st.booleans()),
)
def test_each_row_is_read_once_and_each_odd_one_is_told_once_however_walks_are_cut_up(
    times: list[int],
    odd: list[int],
    slowness: list[int],
    workers: int,
    page: int,
    cuts: list[int],
    includes: tuple[bool, bool],
) -> None:
    refused = set(odd) & set(times)
    ends = sorted({0, END_MS, *cuts})
    log = Log(times, refused, slowness, *includes)
    reading = Reading(
        log, workers, WalkOptions(page, 30), [Range(since, before) for since, before in pairwise(ends)]
    ).done()
    assert reading.rows == sorted(set(times) - refused)
    windows = sorted((piece.since_ms, piece.before_ms) for piece in reading.pieces)
    assert windows[0][0] == 0
    assert windows[-1][1] == END_MS
    assert all(one[1] == other[0] for one, other in pairwise(windows))
    told = [row for piece in reading.pieces for row in piece.unreadable]
    assert all(any(row.since_ms <= time < row.before_ms for row in told) for time in refused)


@dataclass
class Coveted(Log):
    """A log beside which a worker wants a part of the walk at each question that narrows a rejected row down."""

    queue: WorkQueue = field(default_factory=lambda: WorkQueue([Range(0, END_MS)], 9, worth_calls=1))
    wanted: int = 0
    taken: list[Range | None] = field(default_factory=list)

    async def page(self, query: Query) -> Page | Rejection:
        if query.limit != PAGE:
            self.wanted += 1
            with anyio.move_on_after(0):
                self.taken.append(await self.queue.next())
        return await super().page(query)


def test_nothing_is_handed_over_while_an_odd_row_is_narrowed_down() -> None:
    log = Coveted(list(range(0, END_MS, 10)), {1005}, [0])
    log.times = sorted({*log.times, *log.odd})

    async def walk() -> list[Piece]:
        mine = await log.queue.next()
        assert mine is not None
        return [piece async for piece in Walk(log, log.queue, mine, WalkOptions(PAGE, 10_000)).pieces()]

    [piece] = anyio.run(walk)
    assert log.wanted > 3
    assert log.taken == []
    assert (piece.before_ms, piece.rows.num_rows, len(piece.unreadable)) == (END_MS, 200, 1)


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
def test_workers_that_begin_together_have_their_first_pieces_at_different_moments(workers: int) -> None:
    sizes = [one.first_rows for one in staggered(WalkOptions(PAGE, 400), workers)]
    assert sizes[0] == 400
    assert min(sizes) >= 100
    assert len(set(sizes)) == workers


def test_only_the_first_piece_of_a_walk_is_smaller() -> None:
    async def sizes() -> list[int]:
        queue = WorkQueue([Range(0, END_MS)], 1)
        mine = await queue.next()
        assert mine is not None
        walk = Walk(Log(list(range(END_MS)), set(), [0]), queue, mine, WalkOptions(PAGE, 400, first_rows=150))
        return [piece.rows.num_rows async for piece in walk.pieces()]

    assert anyio.run(sizes) == [149, 400, 400, 400, 400, 251]


def reading_of(log: Log, page: int = 1000, **options: object) -> Reading:
    return Reading(log, 1, WalkOptions(page, 20_000, **options), [Range(0, log.times[-1] + 1000)])  # type: ignore[arg-type]  # of several types


def spread(rows: int, share: float, seed: int = 1) -> Log:
    chosen = random.Random(seed)
    times = sorted(chosen.sample(range(rows * 60_000), rows))
    return Log(times, set(chosen.sample(times, int(rows * share))), [0])


@pytest.mark.parametrize("share", [0.01, 0.16])
def test_a_refused_row_costs_a_few_calls_and_every_readable_row_arrives(share: float) -> None:
    log = spread(4_000, share)
    reading = reading_of(log).done()
    assert reading.rows == sorted(set(log.times) - log.odd)
    told = [row for piece in reading.pieces for row in piece.unreadable]
    assert sum(row.rows for row in told) == len(log.odd)
    # What it costs to find the very millisecond of the first few is held down apart.
    assert log.asked <= 3 * 4 + 4 * len(log.odd) + Allowance().sharpening + 20


def test_what_is_known_to_be_unreadable_is_read_around_with_one_call_a_gap() -> None:
    log = spread(300, 0.07)
    first = reading_of(log).done()
    gaps = sorted((row.since_ms, row.before_ms) for piece in first.pieces for row in piece.unreadable)
    log.asked = 0
    again = reading_of(log, known=tuple(gaps)).done()
    assert again.rows == first.rows
    assert sorted((row.since_ms, row.before_ms) for piece in again.pieces for row in piece.unreadable) == gaps
    assert log.asked <= 3 + len(gaps)


def test_a_known_gap_that_reads_well_again_is_read() -> None:
    log = spread(300, 0.07)
    gaps = sorted((row.since_ms, row.before_ms) for piece in reading_of(log).done().pieces for row in piece.unreadable)
    healed = log.odd.pop()
    again = reading_of(log, known=tuple(gaps)).done()
    assert healed in again.rows
    assert len([row for piece in again.pieces for row in piece.unreadable]) == len(gaps) - 1


@given(
    times=st.lists(st.integers(0, END_MS - 1), min_size=1, max_size=80, unique=True).map(sorted),
    odd=st.lists(st.integers(0, END_MS - 1), max_size=8),
    new=st.lists(st.integers(0, END_MS - 1), max_size=3),
    includes=st.tuples(st.booleans(), st.booleans()),
)
def test_known_gaps_hide_nothing_that_is_not_in_one(
    times: list[int], odd: list[int], new: list[int], includes: tuple[bool, bool]
) -> None:
    log = Log(times, set(odd) & set(times), [0], *includes)
    first = Reading(log, 1, WalkOptions(1000, 30), [Range(0, END_MS)]).done()
    gaps = sorted({(row.since_ms, row.before_ms) for piece in first.pieces for row in piece.unreadable})
    log.odd = (log.odd | set(new)) & set(log.times)
    again = Reading(log, 1, WalkOptions(1000, 30, known=tuple(gaps)), [Range(0, END_MS)]).done()
    told = [(row.since_ms, row.before_ms) for piece in again.pieces for row in piece.unreadable]
    for time in set(times) - set(again.rows):
        assert any(since <= time < before for since, before in told)
    assert len(again.rows) == len(set(again.rows))


def test_what_was_learned_is_handed_on_before_much_is_spent() -> None:
    log, now = spread(3_000, 0.16), [0.0]
    calls: list[int] = []

    async def walk() -> None:
        queue = WorkQueue([Range(0, log.times[-1] + 1)], 1)
        mine = await queue.next()
        assert mine is not None
        async for piece in Walk(log, queue, mine, WalkOptions(1000, 1_000_000), clock=lambda: now[0]).pieces():
            calls.append(piece.calls)
            now[0] += 1.0

    anyio.run(walk)
    assert len(calls) > 5
    assert max(calls) <= 200 + 60
    assert sum(calls) == log.asked


def test_what_was_learned_is_handed_on_before_a_minute_has_passed() -> None:
    log, seconds = spread(3_000, 0.05), [0.0]

    @dataclass
    class Slow(Log):
        async def page(self, query: Query) -> Page | Rejection:
            seconds[0] += 5.0
            return await super().page(query)

    async def walk() -> list[int]:
        queue = WorkQueue([Range(0, log.times[-1] + 1)], 1)
        mine = await queue.next()
        assert mine is not None
        slow = Slow(log.times, log.odd, [0])
        walk = Walk(slow, queue, mine, WalkOptions(1000, 1_000_000), clock=lambda: seconds[0])
        return [piece.calls async for piece in walk.pieces()]

    assert max(anyio.run(walk)) <= 60 // 5 + 60


@dataclass
class Filtered(Log):
    """A log whose refused rows lack what a filter compares with, and so do some of the others."""

    lacking: frozenset[int] = frozenset()

    async def page(self, query: Query) -> Page | Rejection:
        if not query.filters:
            outcome = await super().page(query)
            if isinstance(outcome, Rejection):
                return Rejection(tuple(Issue(one.index, "actor.type", "odd") for one in outcome.issues))
            return outcome
        (name, value), whole = query.filters[0], self.times
        values = CANDIDATES[name]
        self.times = [
            time
            for time in whole
            if time not in self.odd and time not in self.lacking and values[time % 7 % len(values)] == value
        ]
        try:
            return await super().page(query)
        finally:
            self.times = whole


def filtered(rows: int, share: float, lacking: int = 0) -> Filtered:
    log = spread(rows, share)
    lack = random.Random(2).sample(sorted(set(log.times) - log.odd), lacking)
    return Filtered(log.times, log.odd, [0], lacking=frozenset(lack))


@pytest.mark.parametrize(("lacking", "most"), [(0, 12), (2, 60)])
def test_many_refused_rows_of_a_page_cost_a_few_questions_with_filters(lacking: int, most: int) -> None:
    log = filtered(300, 0.07, lacking)
    reading = reading_of(log).done()
    assert reading.rows == sorted(set(log.times) - log.odd)
    told = [row for piece in reading.pieces for row in piece.unreadable]
    assert sum(row.rows for row in told) == len(log.odd)
    assert all(any(row.since_ms <= time < row.before_ms for row in told) for time in log.odd)
    assert log.asked <= most


def test_refused_rows_of_many_pages_cost_less_than_two_calls_each_with_filters() -> None:
    log = filtered(3_000, 0.02)
    reading = reading_of(log).done()
    assert reading.rows == sorted(set(log.times) - log.odd)
    told = [row for piece in reading.pieces for row in piece.unreadable]
    assert all(any(row.since_ms <= time < row.before_ms for row in told) for time in log.odd)
    assert log.asked <= 3 * 3 + 2 * len(log.odd)


@given(
    times=st.lists(st.integers(0, END_MS - 1), min_size=20, max_size=120, unique=True).map(sorted),
    odd=st.lists(st.integers(0, 119), min_size=5, max_size=20),
    lacking=st.lists(st.integers(0, 119), max_size=4),
    new=st.lists(st.integers(0, END_MS - 1), max_size=3),
    includes=st.tuples(st.booleans(), st.booleans()),
    page=st.sampled_from([20, 1000]),
)
@settings(max_examples=25, deadline=None)
def test_what_filters_and_counts_leave_out_lies_in_a_gap_that_is_told(
    times: list[int], odd: list[int], lacking: list[int], new: list[int], includes: tuple[bool, bool], page: int
) -> None:
    refused = {times[number % len(times)] for number in odd}
    lack = frozenset(times[number % len(times)] for number in lacking) - refused
    log = Filtered(times, refused, [0], *includes, lacking=lack)
    first = Reading(log, 1, WalkOptions(page, 30), [Range(0, END_MS)]).done()
    gaps = sorted((row.since_ms, row.before_ms) for piece in first.pieces for row in piece.unreadable)
    log.times = sorted({*times, *new})
    again = Reading(log, 1, WalkOptions(page, 30, known=tuple(gaps)), [Range(0, END_MS)]).done()
    for reading, whole in ((first, times), (again, log.times)):
        assert len(reading.rows) == len(set(reading.rows))
        told = [(row.since_ms, row.before_ms) for piece in reading.pieces for row in piece.unreadable]
        for time in set(whole) - set(reading.rows):
            assert any(since <= time < before for since, before in told)
