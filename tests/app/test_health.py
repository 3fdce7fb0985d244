from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cfaudit_export.app.health import ExpectedStreams, Level, examine
from cfaudit_export.core.model import Checkpoint, Gap, Seen, SeenWindow, SinkProgress, Stream, Trimmed, Window

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACCOUNT = "a" * 32
EXPECTED = ExpectedStreams("auditlogs", max_lag=HOUR)


def stream(account: str = ACCOUNT, source: str = "auditlogs", filters: tuple[tuple[str, str], ...] = ()) -> Stream:
    return Stream(account, source, filters)


def checkpoint(of: Stream | None = None, **behind: timedelta) -> Checkpoint:
    sinks = {
        name: SinkProgress((Window(NOW - 900 * HOUR, NOW - lag),))
        for name, lag in (behind or {"s3": timedelta(minutes=5)}).items()
    }
    return Checkpoint(of or stream(), sinks)


def test_all_is_well() -> None:
    health = examine([checkpoint(), checkpoint(stream("b" * 32))], EXPECTED, NOW, days_to_sign_in=20)
    assert health.level == Level.OK
    assert health.line == "OK - 2 streams, at most 5m behind | lag=300s;;3600;0 gaps=0;0 quarantined=0;0 trimmed=0"


def test_a_sink_that_is_behind_is_critical_and_named() -> None:
    health = examine([checkpoint(s3=timedelta(minutes=5), splunk=3 * HOUR)], EXPECTED, NOW)
    assert health.level == Level.CRITICAL
    assert health.line.startswith(f"CRITICAL - account {ACCOUNT}: sink splunk is 3h behind | lag=10800s;;3600;0")


def test_the_lag_that_is_allowed_is_no_lag_too_much() -> None:
    assert examine([checkpoint(s3=HOUR)], EXPECTED, NOW).level == Level.OK
    assert examine([checkpoint(s3=HOUR + timedelta(seconds=1))], EXPECTED, NOW).level == Level.CRITICAL


def test_gaps_and_refused_events_are_warnings() -> None:
    gap = Gap(Window(NOW - 2 * HOUR, NOW - HOUR), 1, "odd", NOW, NOW)
    one = checkpoint()
    refusing = replace(one.sinks["s3"], quarantined=7, seen=Seen(gaps=(SeenWindow(gap.window, ""),)))
    health = examine([replace(one, gaps=(gap,), sinks={"s3": refusing})], EXPECTED, NOW)
    assert health.level == Level.WARNING
    assert "1 gap; " in health.line
    assert "7 events refused by sink s3 | " in health.line
    assert health.line.endswith("gaps=1;0 quarantined=7;0 trimmed=0")


def test_columns_that_are_missing_for_a_day_are_a_warning_when_they_are_many() -> None:
    one = checkpoint()
    window = Window(NOW - 30 * HOUR, NOW - 29 * HOUR)

    def level(rows: int, trimmed: int, hours: int) -> Level:
        waiting = (Trimmed(window, trimmed, NOW - hours * HOUR),)
        sink = replace(one.sinks["s3"], rows=rows, trimmed=waiting, trimmed_rows=trimmed)
        return examine([replace(one, sinks={"s3": sink})], EXPECTED, NOW).level

    assert level(1_000, 11, 25) == Level.WARNING
    assert level(1_000, 11, 23) == Level.OK
    assert level(1_000, 10, 25) == Level.OK


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (None, Level.OK, "1 stream"),
        (7.1, Level.OK, "1 stream"),
        (6.5, Level.WARNING, "the sign-in ends in 6d 12h"),
        (0.0, Level.CRITICAL, "the sign-in has expired"),
    ],
)
def test_a_sign_in_that_comes_to_its_end_is_told(days: float | None, level: Level, words: str) -> None:
    health = examine([checkpoint()], EXPECTED, NOW, days_to_sign_in=days)
    assert health.level == level
    assert words in health.line


def test_what_was_never_exported_is_critical() -> None:
    assert "nothing exported yet" in examine([], EXPECTED, NOW).line
    named = replace(EXPECTED, accounts=(ACCOUNT, "c" * 32), sinks=("s3", "splunk"))
    health = examine([checkpoint()], named, NOW)
    assert health.level == Level.CRITICAL
    assert f"account {'c' * 32} was never exported" in health.line
    assert f"account {ACCOUNT}: sink splunk has nothing yet" in health.line


def test_only_what_is_expected_counts() -> None:
    old = {"old": 90 * HOUR}
    others = [
        checkpoint(stream("b" * 32), **old),
        checkpoint(stream(source="codemode"), **old),
        checkpoint(stream(filters=(("action_type", "create"),)), **old),
    ]
    expected = replace(EXPECTED, accounts=(ACCOUNT,), sinks=("s3",))
    mine = checkpoint(s3=timedelta(minutes=1), old=90 * HOUR)
    assert examine([mine, *others], expected, NOW).level == Level.OK
    assert examine([mine, *others], replace(expected, sinks=()), NOW).level == Level.CRITICAL


def test_what_cannot_be_read_is_unknown_unless_something_is_known_to_be_bad() -> None:
    assert examine([checkpoint()], EXPECTED, NOW, unreadable=["damaged"]).level == Level.UNKNOWN
    assert examine([checkpoint(s3=3 * HOUR)], EXPECTED, NOW, unreadable=["damaged"]).level == Level.CRITICAL


def test_the_line_stays_a_line_whatever_happens() -> None:
    streams = [checkpoint(stream(f"{number:032x}"), **{"a|b": 90 * HOUR}) for number in range(50)]
    health = examine(streams, EXPECTED, NOW)
    assert "and 45 more | " in health.line
    assert health.line.count("|") == 1
    assert "\n" not in health.line


def test_coverage_in_the_future_is_never_fine() -> None:
    health = examine([checkpoint(s3=-30 * 24 * HOUR)], EXPECTED, NOW)
    assert health.level == Level.CRITICAL
    assert "the checkpoint covers sink s3 until 2026-12-24T12:00:00.000Z, which is in the future" in health.line
    assert "lag=0s" in health.line
    assert examine([checkpoint(s3=-timedelta(seconds=30))], EXPECTED, NOW).level == Level.OK, "clocks differ"
