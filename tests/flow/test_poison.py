"""Poison at scale, and a process that is killed while it narrows: nothing readable is lost, nothing odd is silent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cfaudit_export.core.model import to_ms
from cfaudit_sandbox import Sandbox, SandboxOptions, World

SECONDS = 900
QUICK = ("--recover", "off", "--settle-lag", "0s")


def assert_every_odd_row_is_in_a_gap(place: Any) -> None:
    gaps = [(to_ms(gap.window.since), to_ms(gap.window.before), gap.rows) for gap in place.checkpoint().gaps]
    odd = [row.time_ns // 1_000_000 for row in place.world.poison(place.account)]
    for at_ms in odd:
        assert any(since <= at_ms < before for since, before, _ in gaps)
    assert sum(rows for *_, rows in gaps) >= len(odd)


@pytest.mark.parametrize(
    ("events", "poison"),
    [(1_000, 43), pytest.param(50_000, 200, marks=pytest.mark.soak)],
    ids=str,
)
@pytest.mark.parametrize("placement", ["random", "adjacent", "tied"])
def test_every_clean_row_arrives_once_and_every_odd_one_is_a_gap(
    place_of: Callable[..., Any], events: int, poison: int, placement: str
) -> None:
    world = World(
        SandboxOptions(
            events=events,
            span_seconds=86_400.0,
            poison={"all": poison},
            poison_placement=placement,
            ties=0.1,
            twins=0.02,
        )
    )
    with Sandbox(world) as sandbox:
        place = place_of(sandbox, *QUICK)
        running = place.start()
        _, err = running.communicate(timeout=SECONDS)
        assert running.returncode == 65, err
        place.assert_everything_is_there_once()
        assert_every_odd_row_is_in_a_gap(place)


def test_a_process_killed_while_it_narrows_loses_nothing(place_of: Callable[..., Any]) -> None:
    world = World(
        SandboxOptions(events=3_000, span_seconds=20 * 86_400.0, poison={"all": 30}, ties=0.2, latency_seconds=0.002)
    )
    with Sandbox(world) as sandbox:
        place = place_of(sandbox, *QUICK, "-o", "sources.auditlogs.page_size=200")
        for calls in (11, 17, 23):  # in the midst of stepping over one of the first rejected rows
            enough = sandbox.upstream.counts["audit_calls"] + calls
            running = place.start()
            while sandbox.upstream.counts["audit_calls"] < enough and running.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    running.wait(0.002)
            running.kill()
            running.communicate()
            assert running.returncode == -9, "it ended before it was killed"
        done = place.run()
        assert done.code == 65, done.err
        place.assert_everything_is_there_once()
        assert_every_odd_row_is_in_a_gap(place)
        assert place.staged() == []
