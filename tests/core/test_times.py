from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.times import parse_duration, parse_moment, show_duration

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30s", timedelta(seconds=30)),
        ("150ms", timedelta(milliseconds=150)),
        ("1h30m", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
        ("0s", timedelta()),
        ("1.5h", timedelta(minutes=90)),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "5", "5x", "-5m", "5 m", "h", "5m!", "m5", "٣d"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=f"such as '30s', '12h' or '7d', not '{text}'"):
        parse_duration(text)


def test_a_duration_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="too large a duration"):
        parse_duration("99999999999999w")


@pytest.mark.parametrize(
    ("given_text", "moment"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T08:30:00Z", datetime(2026, 11, 20, 8, 30, tzinfo=UTC)),
        ("2026-11-20t08:30:00z", datetime(2026, 11, 20, 8, 30, tzinfo=UTC)),
        ("2026-11-20T08:30:00.123+02:00", datetime(2026, 11, 20, 6, 30, 0, 123_000, tzinfo=UTC)),
        ("2026-11-20 08:30", datetime(2026, 11, 20, 8, 30, tzinfo=UTC)),
        ("7d", NOW - timedelta(days=7)),
        (" 12h ago ", NOW - timedelta(hours=12)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2w", NOW - timedelta(weeks=2)),
    ],
)
def test_a_moment_is_iso_8601_a_date_or_how_long_ago(given_text: str, moment: datetime) -> None:
    parsed = parse_moment(given_text, NOW)
    assert parsed == moment
    assert parsed.utcoffset() == timedelta(0)


def test_dates_and_times_of_toml_are_taken_as_they_are() -> None:
    assert parse_moment(date(2026, 11, 20), NOW) == datetime(2026, 11, 20, tzinfo=UTC)
    assert parse_moment(datetime(2026, 11, 20, 8), NOW) == datetime(2026, 11, 20, 8, tzinfo=UTC)  # noqa: DTZ001  # a time without a zone is what is tested
    east = datetime(2026, 11, 20, 8, tzinfo=timezone(timedelta(hours=2)))
    assert parse_moment(east, NOW) == datetime(2026, 11, 20, 6, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30", "7", "7d later", "999999w", "24:00"])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a time such as '2026-11-20'.*or '7d' \(ago\), not"):
        parse_moment(text, NOW)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))])))
def test_a_written_moment_is_read_back(moment: datetime) -> None:
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        return
    assert parse_moment(moment.isoformat(), NOW) == utc


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=-4), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(minutes=12, seconds=5), "12m 5s"),
        (timedelta(days=3, hours=4, minutes=5), "3d 4h"),
        (timedelta(days=30), "30d"),
        (timedelta(hours=1, seconds=7), "1h"),
    ],
)
def test_a_length_is_shown_in_its_two_largest_units(length: timedelta, shown: str) -> None:
    assert show_duration(length) == shown
