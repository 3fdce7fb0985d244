"""Sets of time against sets of numbers: every operation is checked by counting milliseconds one by one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.intervals import contains, cut, intersect, subtract, union
from cfaudit_export.core.model import Window, floor_ms, from_ms, iso, to_ms

LAST = 24


@st.composite
def windows(draw: st.DrawFn) -> Window:
    since = draw(st.integers(0, LAST - 1))
    return Window(from_ms(since), from_ms(draw(st.integers(since + 1, LAST))))


many = st.lists(windows(), max_size=6)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# From the year 1000 on, so that every year has four digits in every zone.
moments_anywhere = st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001  # zone added
moments = moments_anywhere.map(lambda at: at.astimezone(UTC))


def milliseconds(those: Iterable[Window]) -> set[int]:
    return {at for window in those for at in range(to_ms(window.since), to_ms(window.before))}


def is_canonical(those: tuple[Window, ...]) -> bool:
    return all(left.before < right.since for left, right in pairwise(those))


@given(many)
def test_union_holds_every_time_of_every_window_and_no_other(those: list[Window]) -> None:
    assert milliseconds(union(*those)) == milliseconds(those)
    assert is_canonical(union(*those))


@given(many)
def test_a_set_has_one_form_whatever_the_order_of_its_windows(those: list[Window]) -> None:
    assert union(*reversed(those)) == union(*those) == union(*union(*those))


@given(many, many)
def test_subtract_leaves_what_is_wanted_and_not_covered(wanted: list[Window], covered: list[Window]) -> None:
    rest = subtract(wanted, covered)
    assert milliseconds(rest) == milliseconds(wanted) - milliseconds(covered)
    assert is_canonical(rest)


@given(many, many)
def test_intersect_keeps_what_is_in_both(left: list[Window], right: list[Window]) -> None:
    both = intersect(left, right)
    assert milliseconds(both) == milliseconds(left) & milliseconds(right)
    assert is_canonical(both)
    assert both == intersect(right, left)


@given(many, many)
def test_what_is_covered_and_what_is_left_make_up_what_was_wanted(wanted: list[Window], covered: list[Window]) -> None:
    assert union(*subtract(wanted, covered), *intersect(wanted, covered)) == union(*wanted)


@given(many, st.integers(-1, LAST))
def test_contains_agrees_with_counting_and_the_end_is_outside(those: list[Window], at: int) -> None:
    assert contains(those, from_ms(at)) == (at in milliseconds(those))
    assert contains(those, from_ms(at) + timedelta(microseconds=999)) == (at in milliseconds(those))


def test_operations_take_iterators_that_can_be_read_only_once() -> None:
    window, other = Window(from_ms(0), from_ms(9)), Window(from_ms(3), from_ms(5))
    assert milliseconds(subtract(iter([window]), iter([other]))) == {0, 1, 2, 5, 6, 7, 8}
    assert intersect(iter([window]), iter([other])) == (other,)


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_a_window_is_never_empty_or_turned_round(since: int, before: int) -> None:
    if since < before:
        assert Window(from_ms(since), from_ms(before)).duration == timedelta(milliseconds=before - since)
    else:
        with pytest.raises(ValueError, match="start must be earlier than its end"):
            Window(from_ms(since), from_ms(before))


@given(moments, st.one_of(st.none(), zones))
def test_a_window_takes_only_utc(at: datetime, zone: timezone | None) -> None:
    end = floor_ms(at).replace(tzinfo=zone)
    if zone is not None and zone.utcoffset(None) == timedelta(0):
        assert Window(datetime(1, 1, 1, tzinfo=UTC), max(end, datetime(1, 1, 2, tzinfo=UTC)))
    else:
        with pytest.raises(ValueError, match="UTC"):
            Window(end, end)


@given(st.integers(1, 999))
def test_a_window_takes_only_whole_milliseconds(microseconds: int) -> None:
    with pytest.raises(ValueError, match="whole milliseconds"):
        Window(from_ms(0), from_ms(1) + timedelta(microseconds=microseconds))


@given(moments)
def test_a_moment_belongs_to_the_millisecond_that_contains_it(at: datetime) -> None:
    cut = floor_ms(at)
    assert timedelta(0) <= at - cut < timedelta(milliseconds=1)
    assert from_ms(to_ms(at)) == cut
    assert datetime.fromisoformat(iso(at)) == cut


@given(moments_anywhere)
def test_a_moment_is_written_in_utc_with_three_digits_whatever_its_zone(at: datetime) -> None:
    assert iso(at) == iso(at.astimezone(UTC))
    assert iso(at)[-5] == "."
    assert iso(at)[-1] == "Z"


@given(st.integers(0, 10**13), st.integers(1, 10**11), st.integers(1, 50))
def test_slices_tile_the_window_on_whole_milliseconds(since: int, length: int, count: int) -> None:
    window = Window(from_ms(since), from_ms(since + length))
    parts = cut(window, count)
    assert (parts[0].since, parts[-1].before) == (window.since, window.before)
    assert all(left.before == right.since for left, right in pairwise(parts))
    assert len(parts) == min(count, length)
    lengths = [to_ms(part.before) - to_ms(part.since) for part in parts]
    assert max(lengths) - min(lengths) <= 1
