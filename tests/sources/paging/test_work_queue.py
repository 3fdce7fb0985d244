"""Who reads what: the walk that has the most left hands over, and nothing is handed over twice or lost."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.sources.paging.estimate import RemainingCalls
from cfaudit_export.sources.paging.work_queue import Range, WorkQueue


async def taken(queue: WorkQueue) -> Range:
    mine = await queue.next()
    assert mine is not None
    return mine


def test_an_idle_worker_takes_from_the_walk_that_has_the_most_left() -> None:
    async def scenario() -> tuple[Range, Range, Range]:
        queue = WorkQueue([Range(0, 1000), Range(1000, 2000)], 4)
        short, long = await taken(queue), await taken(queue)
        queue.progress(short, 100, 9)
        queue.progress(long, 1200, 40)
        return short, long, await taken(queue)

    short, long, part = anyio.run(scenario)
    assert short.before_ms == 1000
    assert (long.before_ms, part.since_ms, part.before_ms) == (1600, 1600, 2000)
    assert part.calls_left == long.calls_left == 20


def test_what_was_handed_over_can_be_shared_before_its_first_page() -> None:
    async def scenario() -> Range:
        queue = WorkQueue([Range(0, 1600)], 4)
        first = await taken(queue)
        queue.progress(first, 0, 160)
        second = await taken(queue)
        queue.progress(first, 700, 1)
        third = await taken(queue)
        assert (second.before_ms, third.since_ms) == (1200, 1200)
        return third

    assert anyio.run(scenario).before_ms == 1600


@pytest.mark.parametrize("left", [0, 1, 5.9], ids=["nothing known", "one call", "less than two parts' worth"])
def test_what_is_not_worth_it_stays_with_its_walk(left: float) -> None:
    async def scenario() -> Range | None:
        queue = WorkQueue([Range(0, 1000)], 4)
        mine = await taken(queue)
        queue.progress(mine, 10, left)
        with anyio.move_on_after(0):
            return await queue.next()
        return None

    assert anyio.run(scenario) is None


def test_a_walk_that_is_held_hands_nothing_over_until_it_says_how_far_it_came() -> None:
    async def scenario() -> None:
        queue = WorkQueue([Range(0, 1000)], 4)
        mine = await taken(queue)
        queue.progress(mine, 10, 100)
        queue.pin(mine)
        with anyio.move_on_after(0):
            await queue.next()
        assert mine.before_ms == 1000
        queue.progress(mine, 20, 100)
        assert (await taken(queue)).since_ms == mine.before_ms == 510

    anyio.run(scenario)


@dataclass
class Reading:
    """A log of moments, read by lanes that all take one page a round."""

    moments: Sequence[int]
    page: int
    ranges: list[Range]
    rounds: int = 0
    calls: int = 0
    got: list[int] = field(default_factory=list)

    def by(self, lanes: int) -> Reading:
        anyio.run(self._all, lanes)
        return self

    async def _all(self, lanes: int) -> None:
        queue = WorkQueue(self.ranges, lanes)
        async with anyio.create_task_group() as rounds:
            rounds.start_soon(self._count)
            async with anyio.create_task_group() as group:
                for _ in range(lanes):
                    group.start_soon(self._lane, queue)
            rounds.cancel_scope.cancel()

    async def _count(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.rounds += 1

    async def _lane(self, queue: WorkQueue) -> None:
        while (mine := await queue.next()) is not None:
            at, until, way = bisect_left(self.moments, mine.since_ms), mine.before_ms, RemainingCalls(mine.since_ms)
            while True:
                await anyio.lowlevel.checkpoint()
                found = self.moments[at : at + self.page]
                at, way.calls = at + len(found), way.calls + 1
                self.got += [moment for moment in found if moment < mine.before_ms]
                if len(found) < self.page or found[-1] >= mine.before_ms or found[-1] >= until:
                    break
                reached = found[-1] + 1
                queue.progress(mine, reached, way.calls_left(reached, mine.before_ms))
            queue.pin(mine)
            self.calls += way.calls
            await queue.done()


def log_of(*densities: int) -> list[int]:
    """Return moments of stretches of 100,000 ms, each with so many."""
    return [
        number * 100_000 + place * 100_000 // count for number, count in enumerate(densities) for place in range(count)
    ]


@pytest.mark.parametrize(
    "densities", [(50_000,) * 4, (90_000, 10_000), (1_000, 50_000), (3_000, 40_000, 2_000, 60_000, 1_000, 30_000)]
)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_lanes_are_busy_to_the_end_however_uneven_the_log_is_and_few_calls_are_wasted(
    densities: tuple[int, ...], lanes: int
) -> None:
    moments = log_of(*densities)
    reading = Reading(moments, 1000, [Range(0, 100_000 * len(densities))]).by(lanes)
    pages = math.ceil(len(moments) / 1000)
    assert sorted(reading.got) == moments
    assert reading.calls <= 1.2 * pages + 2
    assert reading.rounds <= pages / lanes + 17


@given(
    st.lists(st.integers(0, 400), max_size=400),
    st.integers(1, 20),
    st.integers(1, 9),
    st.lists(st.integers(0, 400), max_size=4),
)
def test_every_moment_is_read_once_whoever_reads_it_and_the_calls_are_bounded(
    moments: list[int], page: int, lanes: int, cuts: list[int]
) -> None:
    moments = sorted(set(moments))
    ends = sorted({0, 401, *cuts})
    ranges = [Range(since, before) for since, before in pairwise(ends)]
    reading = Reading(moments, page, ranges).by(lanes)
    assert sorted(reading.got) == moments
    assert reading.calls <= 1.25 * (len(moments) / page + len(ranges) + lanes - 1)
