"""One budget for all workers: whatever they are, die of or lose, no window has more calls than the limit."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export.errors import TryAgainError
from cfaudit_export.sources.mcp.quota_document import decode, encode, fresh
from cfaudit_export.sources.mcp.shared_quota import SharedQuota

LIMIT = 600
WINDOW = 300.0
NAME = "budget-of-one"


@dataclass
class Store:
    """Shared documents in memory, with a clock that the test moves."""

    now: float = 1_800_000_000.0
    documents: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    swaps: int = 0
    is_away: bool = False

    def find_shared(self, name: str) -> tuple[bytes, str] | None:
        self._require()
        return self.documents.get(name)

    def swap_shared(self, name: str, content: bytes, *, expected: str | None) -> bool:
        self._require()
        found = self.documents.get(name)
        if (found[1] if found else None) != expected:
            return False
        self.swaps += 1
        self.documents[name] = content, str(self.swaps)
        return True

    def shared_now(self) -> float:
        return self.now

    def _require(self) -> None:
        if self.is_away:
            raise TryAgainError("the store is away")

    def worker(self, number: int = 0, limit: int = LIMIT, ahead: float = 0.0, workers: int = 4) -> SharedQuota:
        """Return the quota of a worker whose own clock is `ahead` of the store's."""
        return SharedQuota(
            self,
            NAME,
            limit,
            worker=f"worker {number}",
            fallback_workers=workers,
            now=lambda: self.now + ahead,
            sleep=lambda _seconds: None,
            jitter=random.Random(number).random,
        )


@dataclass
class Fleet:
    """Workers that make calls as fast as they may, and the server that counts when these arrive."""

    store: Store
    rng: random.Random
    arrived: list[float] = field(default_factory=list)

    def run(
        self,
        workers: int,
        seconds: float,
        *,
        limit: int = LIMIT,
        dying: float = 0.0,
        backfills: int = 0,
        call_seconds: tuple[float, float] = (0.05, 0.5),
        meanwhile: Callable[[float], None] = lambda _since: None,
    ) -> None:
        began = self.store.now
        quotas = [self._born(number, limit) for number in range(workers)]
        times = [(began + self.rng.uniform(0, 5), number) for number in range(workers)]
        heapq.heapify(times)
        while times and times[0][0] < began + seconds:
            self.store.now, number = heapq.heappop(times)
            meanwhile(self.store.now - began)
            delay = quotas[number].draw(1, is_backfill=number < backfills)
            if not delay:
                self.arrived.append(self.store.now + self.rng.uniform(0, 4.9))  # on the way
                delay = self.rng.uniform(*call_seconds)
            if self.rng.random() < dying:
                quotas[number] = self._born(number + 1_000, limit)  # with a block in hand
            heapq.heappush(times, (self.store.now + delay, number))

    def _born(self, number: int, limit: int) -> SharedQuota:
        return self.store.worker(number, limit, ahead=self.rng.uniform(-1e6, 1e6))

    @property
    def worst(self) -> int:
        return worst_window(self.arrived)


def worst_window(times: Iterable[float]) -> int:
    """Return the most calls in any window."""
    worst, window = 0, deque[float]()
    for at in sorted(times):
        window.append(at)
        while window[0] <= at - WINDOW:
            window.popleft()
        worst = max(worst, len(window))
    return worst


@pytest.mark.parametrize("workers", [1, 2, 8, 16, 64])
def test_no_window_has_more_calls_than_the_limit_and_most_of_it_is_used(workers: int) -> None:
    fleet = Fleet(Store(), random.Random(workers))
    fleet.run(workers, 3_600.0)
    assert fleet.worst <= LIMIT
    used = len(fleet.arrived) / (LIMIT * 3_600 / WINDOW)
    assert used >= 0.85, f"{workers} workers use {used:.1%}"
    assert fleet.store.swaps <= 1.2 * len(fleet.arrived)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1_000_000),
    workers=st.integers(1, 20),
    limit=st.integers(20, 200),
    dying=st.sampled_from([0.0, 0.01, 0.2]),
    backfills=st.integers(0, 20),
    pace=st.sampled_from([(0.01, 0.1), (0.1, 20.0), (20.0, 60.0)]),
)
def test_workers_that_die_or_dawdle_never_break_the_limit(
    *, seed: int, workers: int, limit: int, dying: float, backfills: int, pace: tuple[float, float]
) -> None:
    fleet = Fleet(Store(), random.Random(seed))
    fleet.run(workers, 1_200.0, limit=limit, dying=dying, backfills=backfills, call_seconds=pace)
    assert fleet.worst <= limit
    assert fleet.arrived


def test_a_store_that_is_away_for_a_while_stops_nobody_and_breaks_no_limit() -> None:
    store = Store()
    fleet = Fleet(store, random.Random(4))

    def away(since: float) -> None:
        store.is_away = 600 <= since < 1_000

    fleet.run(4, 3_000.0, meanwhile=away)
    began = min(fleet.arrived)
    assert fleet.worst <= LIMIT
    assert [at for at in fleet.arrived if began + 610 < at < began + 990], "they went on without it"
    assert len([at for at in fleet.arrived if at > began + 1_500]) >= 0.7 * LIMIT * 1_500 / WINDOW


def test_a_store_that_was_never_there_leaves_each_worker_its_share() -> None:
    store = Store(is_away=True)
    quota = store.worker(workers=6)
    assert [quota.draw(1, is_backfill=False) for _ in range(100)] == [0.0] * 100
    assert quota.draw(1, is_backfill=False) > 0


def test_a_block_of_the_server_pauses_all_and_teaches_all() -> None:
    store = Store()
    first, second = store.worker(1), store.worker(2)
    for _ in range(100):
        assert first.draw(1, is_backfill=False) == 0.0
        assert second.draw(1, is_backfill=False) == 0.0
    first.blocked(300.0)
    assert 300.0 <= first.draw(1, is_backfill=False) <= 302.0
    store.now += 31.0  # by then each block in hand has lapsed
    assert 269.0 <= second.draw(1, is_backfill=False) <= 271.0
    store.now += 305.0
    third = store.worker(3)
    assert third.draw(1, is_backfill=False) == 0.0
    assert 190 <= decode(store.documents[NAME][0]).learnt <= 220
    assert third.left() <= 220


def test_hourly_work_finds_calls_while_backfills_take_all_they_may() -> None:
    store = Store()
    hourly = store.worker(99)
    assert hourly.draw(1, is_backfill=False) == 0.0
    fleet = Fleet(store, random.Random(1))
    fleet.run(8, 300.0, backfills=8)
    assert len(fleet.arrived) <= 0.8 * LIMIT
    assert [hourly.draw(1, is_backfill=False) for _ in range(100)] == [0.0] * 100


def test_backfills_take_all_where_there_is_no_hourly_work() -> None:
    fleet = Fleet(Store(), random.Random(1))
    fleet.run(4, 3_600.0, backfills=4)
    assert len(fleet.arrived) >= 0.85 * LIMIT * 3_600 / WINDOW


def test_of_two_limits_the_smaller_one_holds_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    small, large = store.worker(1, limit=60), store.worker(2, limit=600)
    assert small.draw(1, is_backfill=False) == 0.0
    drawn = 0
    while not large.draw(1, is_backfill=False):
        drawn += 1
    assert drawn < 60
    assert caplog.text.count("another worker shares this credential under a limit of 60; that holds") == 1
    store.now += 3_600.0
    assert large.draw(1, is_backfill=False) == 0.0
    assert decode(store.documents[NAME][0]).limit == 600, "the other one is gone"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format":2,"limit":600,"limit_until":0}', b"[]", b"\xff"])
def test_a_damaged_document_counts_as_a_spent_window_and_is_kept(damage: bytes) -> None:
    store = Store(documents={NAME: (damage, "1")})
    quota = store.worker()
    assert quota.draw(1, is_backfill=False) >= 335.0
    assert store.documents[f"{NAME}.bad"][0] == damage
    store.now += 340.0
    assert quota.draw(1, is_backfill=False) == 0.0


def test_a_worker_that_slept_with_a_block_in_hand_draws_another_one() -> None:
    store = Store()
    quota = store.worker()
    for _ in range(4):
        quota.draw(1, is_backfill=False)
    before = store.swaps
    store.now += 3_600.0
    assert quota.draw(1, is_backfill=False) == 0.0
    assert store.swaps == before + 1


def test_a_process_that_makes_one_call_draws_one() -> None:
    store = Store()
    for number in range(50):
        assert store.worker(number).draw(1, is_backfill=False) == 0.0
    assert decode(store.documents[NAME][0]).drawn == 50


def test_the_document_comes_back_as_it_was_written() -> None:
    quota = fresh(5, 1.0).blocked(300.0, 2.0)
    assert decode(encode(quota)) == quota
