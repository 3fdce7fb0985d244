"""The budget of calls: what a server that hides its own is seen to allow, and for how long that is believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from cfaudit_export.sources.mcp.budget import Pace


@dataclass
class Server:
    """A clock, and a server that serves so many calls in five minutes."""

    allowed: int
    now: float = 1_000.0
    served: list[float] = field(default_factory=list)
    blocks: int = 0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pace(self, budget: int = 0) -> Pace:
        return Pace(budget, None, now=lambda: self.now, sleep=self.sleep)

    async def call(self, pace: Pace) -> None:
        """Make one call, and as many again as it takes to be served."""
        while True:
            await pace.acquire(1)
            if len([at for at in self.served if at > self.now - 300]) < self.allowed:
                self.served.append(self.now)
                pace.served(1)
                return
            self.blocks += 1
            self.served.clear()
            pace.pause(300.0)


def spend(server: Server, pace: Pace, calls: int) -> float:
    """Make calls; return how many seconds that took."""
    began = server.now

    async def spending() -> None:
        for _ in range(calls):
            await server.call(pace)

    anyio.run(spending)
    return server.now - began


def test_a_hidden_budget_is_met_once_and_then_kept() -> None:
    server = Server(200)
    pace = server.pace()
    assert spend(server, pace, 1_000) <= 1.05 * 4 * 300 + 5
    assert server.blocks == 1
    assert pace.left() == 0
    assert pace.spare() == -100


def test_what_was_learnt_is_forgotten_after_an_hour() -> None:
    server = Server(200)
    pace = server.pace()
    spend(server, pace, 201)
    server.now += 3_600
    server.allowed = 10_000
    assert spend(server, pace, 1_000) == 0


def test_a_budget_of_one_s_own_that_is_smaller_stays() -> None:
    server = Server(200)
    pace = server.pace(budget=100)
    spend(server, pace, 500)
    assert server.blocks == 0
    server.allowed = 70  # others spend a part of it
    spend(server, pace, 200)
    assert server.blocks == 1
    assert (pace.left() or 0) < 70


def test_where_others_have_nearly_all_of_a_budget_their_rest_is_not_taken_for_it() -> None:
    server = Server(5)
    pace = server.pace()
    spend(server, pace, 6)
    server.allowed = 10_000
    assert spend(server, pace, 1_000) == 0


def test_a_short_block_is_not_for_a_budget() -> None:
    server = Server(200)
    pace = server.pace()
    spend(server, pace, 100)
    pace.pause(30.0)
    server.allowed = 10_000
    assert spend(server, pace, 1_000) == 30


@pytest.mark.parametrize(("sent_at", "paused"), [(999.0, 300.0), (1_000.0, 300.0), (1_200.0, 510.0), (None, 510.0)])
def test_a_refusal_that_was_on_its_way_is_no_second_block(sent_at: Any, paused: float) -> None:
    server = Server(5)
    pace = server.pace()
    pace.pause(300.0)
    server.now += 210
    pace.pause(300.0, sent_at)

    async def next_call() -> None:
        await pace.acquire(1)

    anyio.run(next_call)
    assert server.now == 1_000.0 + paused
    assert pace.pauses == 1 + (paused > 300)


def test_an_assumed_cost_holds_until_a_block_and_then_all_calls_of_the_window_count_in_full() -> None:
    server = Server(1_000)
    pace = server.pace(budget=600)
    pace.assume(3)

    async def spending() -> None:
        for _ in range(150):
            await pace.acquire(3)
            pace.served(3)

    anyio.run(spending)
    assert (pace.left(), pace.counted(3), pace.counted(4), pace.counted(0)) == (450, 1, 2, 0)
    pace.pause(30.0)
    assert (pace.left(), pace.counted(3)) == (600 - 150 * 3, 3)


def test_what_a_block_teaches_of_the_budget_is_in_the_cost_that_is_counted_from_then_on() -> None:
    server = Server(1_000)
    pace = server.pace(budget=600)
    pace.assume(3)

    async def spending() -> None:
        for _ in range(100):
            await pace.acquire(3)
            pace.served(3)
        pace.pause(300.0)
        server.now += 300 + 5
        for _ in range(100):
            await pace.acquire(3)

    anyio.run(spending)
    assert server.now == 1_000.0 + 305
    assert pace.left() == 0
