"""Clocks that are wrong, jump, or change to summer time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

HOUR = timedelta(hours=1)


def covered_until(rig: Any) -> datetime:
    return rig.checkpoint().sinks["parquet"].covered[-1].before


def test_a_clock_that_is_ahead_for_a_while_loses_no_event(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert rig.run().exit_code == 0
    rig.now += HOUR
    rig.ahead = timedelta(days=1)
    assert rig.run().exit_code == 0
    assert covered_until(rig) <= rig.now + timedelta(seconds=1)
    [record] = [record for record in caplog.records if "clock is ahead" in record.message]
    assert vars(record)["seconds"] == pytest.approx(86_400, abs=1)
    # What happens in the day that the clock had skipped is read when it is there.
    rig.ahead = timedelta()
    rig.grow(50, rig.now, rig.now + 8 * HOUR)
    rig.now += 9 * HOUR
    assert rig.run().exit_code == 0
    rig.assert_everything_once()


def test_a_clock_that_is_a_little_ahead_is_left_alone(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    rig.ahead = timedelta(seconds=3)
    assert rig.run().exit_code == 0
    assert covered_until(rig) == rig.now + rig.ahead
    assert "clock" not in caplog.text


def test_a_clock_that_is_set_back_waits_until_it_has_caught_up(rig: Any) -> None:
    assert rig.run().exit_code == 0
    before = rig.checkpoint()
    rig.ahead = timedelta(hours=-7)
    report = rig.run()
    assert (report.exit_code, report.sinks[0].rows) == (0, 0)
    assert rig.checkpoint().sinks["parquet"].covered == before.sinks["parquet"].covered
    assert rig.checkpoint().sinks["parquet"].seen == before.sinks["parquet"].seen
    rig.ahead = timedelta()
    rig.grow(20, rig.now, rig.now + HOUR)
    rig.grow(20, rig.now - 2 * HOUR, rig.now - HOUR)
    rig.now += HOUR
    assert rig.run().sinks[0].rows == 40
    rig.assert_everything_once()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_change_of_the_clocks_in_some_country_changes_nothing(rig: Any, change: int) -> None:
    utc = rig.now
    for hours in (0, 1, 2, 3):
        offset = 2 + (change if hours >= 2 else 0)
        rig.now = (utc + hours * HOUR).astimezone(timezone(offset * HOUR))
        rig.grow(10, utc + (hours - 1) * HOUR, utc + hours * HOUR)
        assert rig.run().exit_code == 0
        assert covered_until(rig) == utc + hours * HOUR
    [window] = rig.checkpoint().sinks["parquet"].covered
    assert window.before == utc + 3 * HOUR
    rig.assert_everything_once()
