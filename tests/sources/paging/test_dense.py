"""Refused rows, twins and fractions of a millisecond side by side, in a log in memory, which takes no server's time."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import anyio
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.paging.evidence import Piece
from cfaudit_export.sources.paging.facets import CANDIDATES
from cfaudit_export.sources.paging.habits import Habits
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Issue, Padding, Query, Rejection
from cfaudit_export.sources.paging.walk import Walk, WalkOptions
from cfaudit_export.sources.paging.work_queue import Range, WorkQueue

MS = 1_000_000
START_MS, END_MS = 1_000_000_000_000, 1_000_000_600_000
FIELDS = ("actor.context", "actor.type", "resource.scope", "resource.response", "resource.request")


@dataclass(frozen=True)
class Row:
    """One event: when, how it looks in a page, what filters find in it, and the field for which it is refused."""

    ns: int
    text: str
    facets: dict[str, str]
    fault: str | None = None


@dataclass(frozen=True)
class World:
    """A log, and how its server answers."""

    seed: int
    rows: int
    odd: int
    span_ms: int
    ties: float
    fractions: bool
    edges: tuple[bool, bool]
    page: int
    cap: int = 1000
    counts: bool = True

    def made(self) -> list[Row]:
        chosen = random.Random(self.seed)
        times: list[int] = []
        for _ in range(self.rows):
            if times and chosen.random() < self.ties:
                at = chosen.choice(times)
                times.append(at if chosen.random() < 0.5 else at // MS * MS)
            else:
                fraction = chosen.choice([0, 0, 1, 999_999]) if self.fractions else 0
                times.append((START_MS + 1 + chosen.randrange(self.span_ms)) * MS + fraction)
        rows = []
        odd = set(chosen.sample(range(self.rows), min(self.odd, self.rows)))
        for number, ns in enumerate(times):
            facets = {name: chosen.choice(values) for name, values in CANDIDATES.items()}
            look = chosen.choice([str(number), "twin"]) if self.ties else str(number)
            fault = chosen.choice(FIELDS) if number in odd else None
            if fault is not None:
                facets.pop(fault.replace(".", "_"), None)
            rows.append(Row(ns, f"{ns} {look}", facets, fault))
        return sorted(rows, key=lambda row: row.ns)


@dataclass
class Dense:
    """Answers like the Audit Logs server: a page with a refused row is refused, and each such row is named."""

    world: World
    log: list[Row]
    padding: Padding = field(default_factory=Padding)
    exclusive: Padding = field(default_factory=Padding)
    habits: Habits = field(default_factory=Habits)
    empty: pa.Table = field(default_factory=PAGE_SCHEMA.empty_table)
    asked: int = 0

    async def page(self, query: Query) -> Page | Rejection:
        self.asked += 1
        low = (query.since_ms - query.padding.since_ms) * MS
        high = (query.before_ms + query.padding.before_ms) * MS
        since_includes, before_includes = self.world.edges
        found = [
            row
            for row in self.log
            if (low <= row.ns if since_includes else low < row.ns)
            and (row.ns <= high if before_includes else row.ns < high)
            and all(row.facets.get(name) == value for name, value in query.filters)
        ]
        if query.direction == "desc":
            found.reverse()
        at = int(query.cursor or 0)
        end = at + min(query.limit, self.world.cap)
        rows = found[at:end]
        if issues := tuple(Issue(place, row.fault, "odd") for place, row in enumerate(rows) if row.fault):
            return Rejection(issues)
        count = len(rows) if self.world.counts else None
        return Page(table(rows), str(end) if end < len(found) else None, count=count, asked=query.limit)


def table(rows: list[Row]) -> pa.Table:
    columns = {name: pa.array([None] * len(rows), pa.string()) for name in PAGE_SCHEMA.names}
    columns["event_raw"] = pa.array([row.text for row in rows], pa.string())
    columns["event_time"] = pa.array([row.ns for row in rows], pa.timestamp("ns", tz="UTC"))
    return pa.table(columns, schema=PAGE_SCHEMA)


def walked(server: Dense) -> list[Piece]:
    async def walk() -> list[Piece]:
        queue = WorkQueue([Range(START_MS, END_MS)], 1)
        mine = await queue.next()
        assert mine is not None
        options = WalkOptions(server.world.page, 1000)
        return [piece async for piece in Walk(server, queue, mine, options).pieces()]

    return anyio.run(walk)


def assert_read_completely(world: World) -> None:
    log = world.made()
    server = Dense(world, log)
    pieces = walked(server)
    got = Counter(text for piece in pieces for text in piece.rows["event_raw"].to_pylist())
    truth = Counter(row.text for row in log if not row.fault)
    assert not got - truth, "rows that there are not"
    windows = [(piece.since_ms, piece.before_ms) for piece in pieces]
    assert (windows[0][0], windows[-1][1]) == (START_MS, END_MS)
    assert all(one[1] == other[0] for one, other in pairwise(windows))
    gaps = [gap for piece in pieces for gap in piece.unreadable]
    odd = Counter(row.ns // MS for row in log if row.fault)
    for at_ms in odd:
        assert any(gap.since_ms <= at_ms < gap.before_ms for gap in gaps), at_ms
    for text in truth - got:
        at_ms = int(text.split()[0]) // MS
        mine = [gap for gap in gaps if gap.since_ms <= at_ms < gap.before_ms]
        assert mine, f"lost without a word: {text}"
        # Where `since` excludes, no question starts exactly on a millisecond.
        near = (at_ms,) if world.edges[0] else (at_ms - 1, at_ms, at_ms + 1)
        # Nor does any tell where refused rows hide what the ends include.
        assert sum(odd[one] for one in near) > 1 or not server.padding.learned, (
            f"beside one refused row: {text}, {mine}"
        )
        assert any(gap.hidden for gap in mine), f"not counted: {text}, {mine}"


WORLDS = st.builds(
    World,
    seed=st.integers(0, 1_000_000),
    rows=st.integers(1, 120),
    odd=st.integers(0, 25),
    span_ms=st.sampled_from([3, 20, 1_000, 500_000]),
    ties=st.sampled_from([0.0, 0.5, 0.9]),
    fractions=st.booleans(),
    edges=st.tuples(st.booleans(), st.booleans()),
    page=st.sampled_from([3, 20, 1000]),
    cap=st.sampled_from([1000, 1000, 200]),
    counts=st.booleans(),
)


# Each of a kind that was seen: a twin at the end of a page before a refused row; a refused row in the way of learning
# what the ends include; refused rows at fractions of a millisecond that no question starts or ends with; rows behind a
# refused one of a millisecond whose end is in the next one; a refused row in the first of two milliseconds.
SEEN = (
    World(0, 19, 3, 20, 0.9, fractions=False, edges=(False, False), page=3),
    World(17642, 7, 1, 20, 0.0, fractions=True, edges=(False, False), page=1000, counts=False),
    World(192981, 30, 2, 20, 0.0, fractions=True, edges=(False, True), page=20, counts=False),
    World(678534, 6, 2, 3, 0.5, fractions=False, edges=(False, True), page=1000, counts=False),
    World(336174, 9, 3, 3, 0.5, fractions=True, edges=(True, True), page=1000),
    World(389211, 66, 5, 20, 0.0, fractions=True, edges=(True, True), page=20, counts=False),
    World(694930, 3, 1, 1000, 0.9, fractions=True, edges=(True, True), page=3, cap=200),
    World(947183, 20, 6, 500_000, 0.5, fractions=True, edges=(True, True), page=3, counts=False),
    World(879503, 56, 10, 20, 0.0, fractions=False, edges=(False, True), page=20, counts=False),
)


@pytest.mark.parametrize("world", SEEN, ids=lambda world: str(world.seed))
def test_logs_that_were_once_read_wrongly_are_read_completely(world: World) -> None:
    assert_read_completely(world)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(WORLDS)
def test_small_dense_logs_are_read_completely(world: World) -> None:
    assert_read_completely(world)


@pytest.mark.soak
@settings(max_examples=4_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(WORLDS)
def test_thousands_of_small_dense_logs_are_read_completely(world: World) -> None:
    assert_read_completely(world)
