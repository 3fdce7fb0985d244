"""A clock that is wrong, the machine's or the server's: no event is taken for read before it comes, none left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from bad_habits import Machine, World, judge, machine, network, world
from bad_habits.cases import line
from bad_habits.log import NOW, START_MS
from cfaudit_export import ExitCode, Window
from cfaudit_export.core.model import MILLISECOND, from_ms

BOTH = pytest.mark.parametrize("source", ["auditlogs", "codemode"])
DAY = timedelta(days=1)
STEP_MS = 600_000
ALL = world(line(300, STEP_MS))  # fifty hours; at NOW thirty of them have passed


def known_at(hours: float) -> World:
    """The log as it is so many hours after NOW."""
    until = (NOW + timedelta(hours=hours)).timestamp() * 1000
    return replace(ALL, events=tuple(event for event in ALL.events if event.at_ms < until))


def run_at(one: Machine, hours: float, *, ahead: timedelta = timedelta(0), dated: bool = True) -> int:
    """Run so many hours after NOW, on a machine whose clock is ahead; a date that the server sends is right."""
    now = NOW + timedelta(hours=hours)
    one.server.world = known_at(hours)
    says = network.header("Date", format_datetime(now, usegmt=True)) if dated else network.without("Date")
    one.server.habits = (says,)
    report = one.run(until=None, clock=lambda: now + ahead)
    assert report.exit_code == ExitCode.OK, report.error
    assert not one.added()
    return one.missing().total()


@BOTH
@pytest.mark.parametrize("dated", [True, False], ids=["dated", "without a date"])
@pytest.mark.parametrize("ahead", [timedelta(hours=7), 5 * DAY, 800 * DAY], ids=str)
def test_a_machine_days_ahead_does_not_take_the_future_for_read(source: Any, ahead: timedelta, *, dated: bool) -> None:
    with machine(ALL, source=source) as one:
        assert run_at(one, 0, ahead=ahead, dated=dated) == 0
        assert run_at(one, 10, ahead=ahead, dated=dated) == 0
        assert run_at(one, 20, dated=dated) == 0, "the clock is right again"


@BOTH
@pytest.mark.parametrize(
    "habit", [network.without("Date"), network.header("Date", "Thu, 01 Jan 1970 00:00:00 GMT")], ids=str
)
def test_a_log_that_proves_no_time_at_all_is_read_from_its_first_event_on(source: Any, habit: Any) -> None:
    with machine(replace(ALL, events=()), habit, source=source) as one:
        for _ in range(2):
            report = one.run(until=None, clock=lambda: NOW + 5 * DAY)
            assert (report.exit_code, report.error, report.events) == (ExitCode.OK, None, 0)
        assert run_at(one, 0, ahead=5 * DAY, dated=False) == 0
        assert run_at(one, 10, dated=False) == 0


@BOTH
@pytest.mark.parametrize("date", [NOW - 7 * DAY / 24, NOW - 5 * DAY, NOW - 365 * DAY], ids=str)
def test_a_server_with_an_old_date_is_read_to_its_newest_event(source: Any, date: Any) -> None:
    with machine(ALL, network.header("Date", format_datetime(date, usegmt=True)), source=source) as one:
        for hours in (0, 10):
            now = NOW + timedelta(hours=hours)
            one.server.world = known_at(hours)
            report = one.run(until=None, clock=lambda now=now: now)
            judge(one, report)
            assert report.exit_code == ExitCode.OK, report.error
            assert not one.missing()


def test_the_newest_event_is_dated_even_where_it_is_rejected() -> None:
    odd = replace(ALL, events=(*ALL.events[:-1], replace(ALL.events[-1], odd="resource.response")))
    newest = from_ms(odd.events[-1].at_ms)
    with machine(odd) as one, one.connected() as opened:
        before = one.server.calls
        window = Window(newest - 300 * DAY, newest + 200 * DAY)
        assert newest - timedelta(minutes=1) <= opened.newest_time(window) <= newest
        assert one.server.calls - before <= 24
        assert opened.newest_time(Window(from_ms(START_MS), newest - 9 * MILLISECOND)) == newest - STEP_MS * MILLISECOND
        assert opened.newest_time(Window(newest + 9 * MILLISECOND, newest + DAY)) is None
