"""The budget of calls: what a server that hides its own is seen to allow, and for how long that is believed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from cfaudit_export.core.model import Window
from cfaudit_export.errors import ThrottledError
from cfaudit_export.sources.mcp.budget import CallBudget

START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Server:
    """A clock, and a server that serves so many calls in five minutes."""

    allowed: int
    now: float = 1_000.0
    served: list[float] = field(default_factory=list)
    blocks: int = 0

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await anyio.lowlevel.checkpoint()
        self.now = max(self.now, until)

    def budget(self, budget: int = 0) -> CallBudget:
        return CallBudget(budget, None, now=lambda: self.now, sleep=self.sleep)

    async def call(self, budget: CallBudget) -> None:
        """Make one call, and as many again as it takes to be served."""
        while True:
            await budget.acquire(1)
            if len([at for at in self.served if at > self.now - 300]) < self.allowed:
                self.served.append(self.now)
                budget.served(1)
                return
            self.blocks += 1
            self.served.clear()
            budget.pause(300.0)


def spend(server: Server, budget: CallBudget, calls: int) -> float:
    """Make calls; return how many seconds that took."""
    began = server.now

    async def spending() -> None:
        for _ in range(calls):
            await server.call(budget)

    anyio.run(spending)
    return server.now - began


def test_a_hidden_budget_is_met_once_and_then_kept() -> None:
    server = Server(200)
    budget = server.budget()
    assert spend(server, budget, 1_000) <= 1.05 * 4 * 300 + 5
    assert server.blocks == 1
    assert budget.left() == 0
    assert budget.spare() == -100


def test_what_was_learnt_is_forgotten_after_an_hour() -> None:
    server = Server(200)
    budget = server.budget()
    spend(server, budget, 201)
    server.now += 3_600
    server.allowed = 10_000
    assert spend(server, budget, 1_000) == 0


def test_a_budget_of_one_s_own_that_is_smaller_stays() -> None:
    server = Server(200)
    budget = server.budget(budget=100)
    spend(server, budget, 500)
    assert server.blocks == 0
    server.allowed = 70  # others spend a part of it
    spend(server, budget, 200)
    assert server.blocks == 1
    assert (budget.left() or 0) < 70


def test_where_others_have_nearly_all_of_a_budget_their_rest_is_not_taken_for_it() -> None:
    server = Server(5)
    budget = server.budget()
    spend(server, budget, 6)
    server.allowed = 10_000
    assert spend(server, budget, 1_000) == 0


def test_a_short_block_is_not_for_a_budget() -> None:
    server = Server(200)
    budget = server.budget()
    spend(server, budget, 100)
    budget.pause(30.0)
    server.allowed = 10_000
    assert spend(server, budget, 1_000) == 30


@pytest.mark.parametrize(("sent_at", "paused"), [(999.0, 300.0), (1_000.0, 300.0), (1_200.0, 510.0), (None, 510.0)])
def test_a_refusal_that_was_on_its_way_is_no_second_block(sent_at: Any, paused: float) -> None:
    server = Server(5)
    budget = server.budget()
    budget.pause(300.0)
    server.now += 210
    budget.pause(300.0, sent_at)

    async def next_call() -> None:
        await budget.acquire(1)

    anyio.run(next_call)
    assert server.now == 1_000.0 + paused
    assert budget.pauses == 1 + (paused > 300)


def test_an_assumed_cost_holds_until_a_block_and_then_all_calls_of_the_window_count_in_full() -> None:
    server = Server(1_000)
    budget = server.budget(budget=600)
    budget.assume(3)

    async def spending() -> None:
        for _ in range(150):
            await budget.acquire(3)
            budget.served(3)

    anyio.run(spending)
    assert (budget.left(), budget.counted(3), budget.counted(4), budget.counted(0)) == (450, 1, 2, 0)
    budget.pause(30.0)
    assert (budget.left(), budget.counted(3)) == (600 - 150 * 3, 3)


def test_what_a_block_teaches_of_the_budget_is_in_the_cost_that_is_counted_from_then_on() -> None:
    server = Server(1_000)
    budget = server.budget(budget=600)
    budget.assume(3)

    async def spending() -> None:
        for _ in range(100):
            await budget.acquire(3)
            budget.served(3)
        budget.pause(300.0)
        server.now += 300 + 5
        for _ in range(100):
            await budget.acquire(3)

    anyio.run(spending)
    assert server.now == 1_000.0 + 305
    assert budget.left() == 0


def test_sources_beside_each_other_spend_one_budget_and_count_for_themselves() -> None:
    server = Server(1_000)
    first = server.budget(budget=10)
    second = first.beside()

    async def spending() -> None:
        for _ in range(6):
            await first.acquire(1)
        for _ in range(4):
            await second.acquire(1)

    anyio.run(spending)
    assert (first.left(), second.left()) == (0, 0)
    assert (first.calls, second.calls) == (6, 4)
    second.pause(30.0)
    assert (first.pauses, second.pauses) == (1, 1), "all of them wait"
    assert (first.throttles, second.throttles) == (0, 1), "and one was told"


def test_threads_that_spend_one_budget_never_spend_more() -> None:
    budget = CallBudget(100, 0.0, now=lambda: 1_000.0)

    def spend_all() -> int:
        own = budget.beside()

        async def spending() -> None:
            while True:
                await own.acquire(1)

        with pytest.raises(ThrottledError):
            anyio.run(spending)
        return own.calls

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: spend_all(), range(8))) == 100
    assert budget.left() == 0


def test_a_backfill_leaves_the_calls_that_become_free_to_hourly_work() -> None:
    server = Server(1_000)
    backfill = server.budget(budget=10)
    hourly = backfill.beside()
    backfill.plan([Window(START, START + timedelta(days=30))])
    hourly.plan([Window(START, START + timedelta(hours=7))])
    order: list[str] = []

    async def spend(name: str, budget: CallBudget, calls: int) -> None:
        for _ in range(calls):
            await budget.acquire(1)
            order.append(name)

    async def spending() -> None:
        await spend("backfill", backfill, 10)
        async with anyio.create_task_group() as both:
            both.start_soon(spend, "backfill", backfill, 5)
            both.start_soon(spend, "hourly", hourly, 5)

    anyio.run(spending)
    assert order[10:15].count("hourly") >= 4, "it asked later, and was still first"
