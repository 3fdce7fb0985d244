"""What time a run plans by when our clock is ahead of the server's: never one that nothing proves."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from cfaudit_export.core.model import EPOCH, MILLISECOND, Connection, Window
from cfaudit_export.errors import SourceUnavailableError
from cfaudit_export.pipeline.clocks import time_to_plan_by
from cfaudit_export.plugin.interfaces import Extract

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LAG = timedelta(minutes=15)
DAY = timedelta(days=1)


class Plain:
    """A source that cannot date its newest event."""

    def connect(self) -> Connection:
        raise NotImplementedError

    def probe(self) -> None:
        raise NotImplementedError

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@dataclass
class Log(Plain):
    """A source of events at these times."""

    events: tuple[datetime, ...] = ()
    asked: list[Window] = field(default_factory=list)

    def newest_time(self, window: Window) -> datetime | None:
        self.asked.append(window)
        return max((at for at in self.events if window.since <= at < window.before), default=None)


@pytest.mark.parametrize(
    ("ahead_seconds", "believed"), [(-1e9, 0), (-60, 0), (0, 0), (5, 0), (6, 6), (3_599, 3_599), (3_600, 3_600)]
)
def test_up_to_an_hour_the_server_is_believed_and_no_event_is_asked_for(ahead_seconds: float, believed: float) -> None:
    log = Log((NOW,))
    assert time_to_plan_by(NOW, ahead_seconds, log, LAG) == NOW - timedelta(seconds=believed)
    assert not log.asked


@pytest.mark.parametrize("ahead", [timedelta(hours=9), 5 * DAY, 4_000 * DAY])
def test_a_machine_that_is_ahead_takes_no_time_for_read_that_has_not_come(ahead: timedelta) -> None:
    theirs = NOW - ahead
    for events in ((), (theirs - DAY,), (theirs - MILLISECOND,)):
        assert time_to_plan_by(NOW, ahead.total_seconds(), Log(events), LAG) == theirs


@pytest.mark.parametrize("ahead", [timedelta(hours=9), 5 * DAY, 365 * DAY, 4_000 * DAY, NOW - EPOCH, 900_000 * DAY])
def test_a_date_that_is_behind_hides_no_event(ahead: timedelta) -> None:
    newest = NOW - timedelta(hours=2)
    log = Log((NOW - 20 * DAY, newest))
    believed = time_to_plan_by(NOW, ahead.total_seconds(), log, LAG)
    assert believed - LAG == newest + MILLISECOND
    [asked] = log.asked
    assert asked.duration <= 550 * DAY, "no log goes back further"
    assert time_to_plan_by(NOW, ahead.total_seconds(), Log((NOW - MILLISECOND,)), LAG) == NOW


def test_where_the_server_tells_no_time_only_the_newest_event_is_certain(caplog: pytest.LogCaptureFixture) -> None:
    newest = NOW - timedelta(hours=30)
    log = Log((NOW - 20 * DAY, newest))
    assert time_to_plan_by(NOW, None, log, LAG) - LAG == newest + MILLISECOND
    assert log.asked[0].before == NOW
    assert time_to_plan_by(NOW, None, Log((NOW - MILLISECOND,)), LAG) == NOW
    assert time_to_plan_by(NOW, None, Log(), LAG) == EPOCH, "no event, no proof"
    assert "does not tell its time" in caplog.text
    with pytest.raises(SourceUnavailableError, match=r"cannot be compared.*correct this machine's clock"):
        time_to_plan_by(NOW, None, Plain(), LAG)


def test_a_source_that_dates_nothing_is_believed_for_a_day_and_not_read_beyond() -> None:
    assert time_to_plan_by(NOW, 86_400.0, Plain(), LAG) == NOW - DAY
    with pytest.raises(SourceUnavailableError, match=r"5 days ahead of the server's.*correct this machine's clock"):
        time_to_plan_by(NOW, 5 * 86_400.0, Plain(), LAG)
