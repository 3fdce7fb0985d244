"""The budget of calls: what a server that hides its own is seen to allow, and for how long that is believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from cfaudit_export.sources.mcp.budget import CallBudget


@dataclass
class Server:
    """A clock, and a server that serves so many calls in five minutes."""

    allowed: int
    now: float = 1_000.0
    served: list[float] = field(default_factory=list)
    blocks: int = 0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

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
