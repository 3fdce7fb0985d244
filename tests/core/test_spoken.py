"""Times as people say them: what is meant, in words, on days on which clocks are changed, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.spoken import around, local_zone, understand

BERLIN = ZoneInfo("Europe/Berlin")
# Clocks that jump by an hour, by half an hour, at midnight in either direction, by a whole day, and never.
ZONES = [
    ZoneInfo(name)
    for name in (
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "America/Havana",
        "Africa/Cairo",
        "Asia/Kathmandu",
        "UTC",
    )
]
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)  # a Monday, 10:00 in Berlin
PARTS = {
    "morning": (6, 0, 12, 0),
    "lunch": (11, 30, 14, 0),
    "afternoon": (12, 0, 18, 0),
    "evening": (18, 0, 22, 0),
    "02:15-02:45": (2, 15, 2, 45),
    "00:15-03:30": (0, 15, 3, 30),
}


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "since", "before", "words"),
    [
        ("yesterday lunch", "2026-11-29T11:30", "2026-11-29T14:00", "Sunday 29 November 2026, 11:30 to 14:00"),
        ("Yesterday around lunchtime", "2026-11-29T11:30", "2026-11-29T14:00", "Sunday 29 November 2026, 11:30 to"),
        ("yesterday", "2026-11-29", "2026-11-30", "Sunday 29 November 2026"),
        ("today", "2026-11-30", "2026-12-01", "Monday 30 November 2026"),
        ("monday", "2026-11-30", "2026-12-01", "Monday 30 November 2026"),
        ("last monday", "2026-11-23", "2026-11-24", "Monday 23 November 2026"),
        ("tue 14:00-15:30", "2026-11-24T14:00", "2026-11-24T15:30", "Tuesday 24 November 2026, 14:00 to 15:30"),
        ("tuesday 14:00 to 15:30", "2026-11-24T14:00", "2026-11-24T15:30", "Tuesday 24 November 2026, 14:00 to 15:30"),
        ("last week", "2026-11-23", "2026-11-30", "Monday 23 November 2026 to Sunday 29 November 2026"),
        ("this week", "2026-11-30", "2026-12-07", "Monday 30 November 2026 to Sunday 6 December 2026"),
        ("yesterday night", "2026-11-29T22:00", "2026-11-30T06:00", "Sunday 29 November 2026, 22:00 to 06:00 the day"),
        ("last night", "2026-11-29T22:00", "2026-11-30T06:00", "Sunday 29 November 2026, 22:00 to 06:00 the day"),
        ("22:00-06:00", "2026-11-29T22:00", "2026-11-30T06:00", "Sunday 29 November 2026, 22:00 to 06:00 the day"),
        ("morning", "2026-11-30T06:00", "2026-11-30T12:00", "Monday 30 November 2026, 06:00 to 12:00"),
        ("evening", "2026-11-29T18:00", "2026-11-29T22:00", "Sunday 29 November 2026, 18:00 to 22:00"),
        ("2026-11-20", "2026-11-20", "2026-11-21", "Friday 20 November 2026"),
        ("2026-11-20 afternoon", "2026-11-20T12:00", "2026-11-20T18:00", "Friday 20 November 2026, 12:00 to 18:00"),
        ("yesterday noon", "2026-11-29T12:00", None, "Sunday 29 November 2026, 12:00"),
        ("9:05", "2026-11-30T09:05", None, "Monday 30 November 2026, 09:05"),
        ("2026-11-20T08:30", "2026-11-20T08:30", None, "Friday 20 November 2026, 08:30"),
        ("2026-11-20 08:30", "2026-11-20T08:30", None, "Friday 20 November 2026, 08:30"),
        ("2026-11-20T08:30:05Z", "2026-11-20T09:30:05", None, "Friday 20 November 2026, 09:30:05"),
        ("7d", "2026-11-23T10:00", None, "Monday 23 November 2026, 10:00"),
        ("now", "2026-11-30T10:00", None, "Monday 30 November 2026, 10:00"),
    ],
)
def test_what_people_say_is_understood_and_said_back(text: str, since: str, before: str | None, words: str) -> None:
    found = understand(text, NOW, BERLIN)
    assert found.since == local(since)
    assert found.before == (local(before) if before else None)
    assert found.words.startswith(words)
    assert found.words.endswith(" (Europe/Berlin)")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("yesterdy", "; did you mean 'yesterday'?"),
        ("yesterday lunsh", "; did you mean 'lunch'?"),
        ("tuseday", "; did you mean 'tuesday'?"),
        ("yesterday 25:00", ""),
        ("last year", ""),
        ("2026-02-30", ""),
        ("monday lunch noon", ""),
        ("", ""),
        ("at", ""),
        ("12:00-", ""),
    ],
)
def test_what_is_not_understood_is_told_with_what_is(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"expected a time such as 'yesterday lunch', 'monday 14:00'") as told:
        understand(text, NOW, BERLIN)
    assert f"not '{text}'" in str(told.value)
    assert hint in str(told.value)


@given(st.text(max_size=30))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        found = understand(text, NOW, BERLIN)
    except ValueError:
        return
    assert found.before is None or found.since < found.before


days = st.dates(date(1995, 1, 1), date(2035, 12, 30))


@given(days, st.sampled_from(ZONES))
def test_days_follow_each_other_and_hold_just_their_own_moments(day: date, zone: ZoneInfo) -> None:
    first, second = (understand(one.isoformat(), NOW, zone) for one in (day, day + timedelta(days=1)))
    assert first.before == second.since
    assert first.before
    assert first.since.astimezone(zone).date() == day
    assert (first.since - timedelta(milliseconds=1)).astimezone(zone).date() < day
    assert (first.before - timedelta(milliseconds=1)).astimezone(zone).date() <= day


@given(st.sampled_from(ZONES), st.integers(1995, 2035), st.sampled_from(sorted(PARTS)), st.data())
def test_where_clocks_change_a_part_of_a_day_misses_no_moment_of_it(
    zone: ZoneInfo, year: int, name: str, data: st.DataObject
) -> None:
    """Every moment whose local time lies in the part is in the period, both times where it comes twice."""
    changing = [
        day
        for number in range(365)
        for day in [date(year, 1, 1) + timedelta(days=number)]
        if _offset(day, zone) != _offset(day + timedelta(days=1), zone)
    ]
    day = data.draw(st.sampled_from(changing or [date(year, 6, 1)]))
    found = understand(f"{day} {name}", NOW, zone)
    assert found.before
    assert found.since < found.before
    from_hour, from_minute, to_hour, to_minute = PARTS[name]
    minute = datetime.combine(day, datetime.min.time(), UTC) - timedelta(hours=15)
    for step in range(54 * 4):
        at = minute + timedelta(minutes=15 * step)
        here = at.astimezone(zone)
        inside = (from_hour, from_minute) <= (here.hour, here.minute) < (to_hour, to_minute)
        if here.date() == day and inside:
            assert found.since <= at < found.before, here


def _offset(day: date, zone: ZoneInfo) -> timedelta | None:
    return datetime.combine(day, datetime.min.time(), zone).utcoffset()


@given(st.integers(800_000_000, 2_050_000_000), st.sampled_from(ZONES))
def test_a_part_without_a_day_is_the_latest_that_has_begun(second: int, zone: ZoneInfo) -> None:
    now = datetime.fromtimestamp(second, UTC)
    for name in ("morning", "lunch", "evening", "night"):
        found = understand(name, now, zone)
        assert now - timedelta(hours=26) <= found.since <= now


def test_around_a_period_is_the_period_and_around_a_moment_an_hour_on_each_side() -> None:
    window, _ = around("yesterday lunch", NOW, BERLIN, None)
    assert (window.since, window.before) == (local("2026-11-29T11:30"), local("2026-11-29T14:00"))
    window, _ = around("yesterday lunch", NOW, BERLIN, timedelta(hours=3))
    assert (window.since, window.before) == (local("2026-11-29T09:45"), local("2026-11-29T15:45"))
    window, told = around("yesterday 14:00", NOW, BERLIN, None)
    assert (window.since, window.before) == (local("2026-11-29T13:00"), local("2026-11-29T15:00"))
    assert told.is_spoken
    assert not around("2026-11-20T08:30:00Z", NOW, BERLIN, None)[1].is_spoken


def test_the_zone_of_the_machine_is_that_of_its_variable_else_of_its_link_else_utc(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    assert local_zone({}, link) == "UTC"
    (tmp_path / "zoneinfo" / "Asia").mkdir(parents=True)
    (tmp_path / "zoneinfo" / "Asia" / "Tokyo").touch()
    link.symlink_to(tmp_path / "zoneinfo" / "Asia" / "Tokyo")
    assert local_zone({}, link) == "Asia/Tokyo"
    assert local_zone({"TZ": ":Europe/Berlin"}, link) == "Europe/Berlin"
    assert local_zone({"TZ": "Mars/Olympus"}, link) == "Asia/Tokyo"
    assert local_zone({"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}, link) == "Asia/Tokyo"
