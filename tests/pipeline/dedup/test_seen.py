"""The memory of delivered keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.model import Window
from cfaudit_export.pipeline.dedup.seen import forget, merge, pack, unseen, within

START = datetime(2026, 11, 24, tzinfo=UTC)
# The packed part is the first 96 bits, so that is what differs.
keys = st.integers(0, 2**96 - 1).map(lambda number: f"{number:024x}00000000")
events = st.lists(st.tuples(keys, st.integers(0, 300)), unique_by=lambda event: event[0], max_size=20)


def table(rows: list[tuple[str, int]]) -> pa.Table:
    times = pa.array([START + timedelta(minutes=minutes) for _, minutes in rows], pa.timestamp("us", tz="UTC"))
    return pa.table({"event_key": pa.array([key for key, _ in rows], pa.string()), "event_time": times})


@given(events, events)
def test_only_events_that_were_not_packed_are_unseen(delivered: list, others: list) -> None:
    known = {key for key, _ in delivered}
    read = delivered + [event for event in others if event[0] not in known]
    seen = pack(table(delivered), START)
    assert unseen(table(read), seen)["event_key"].to_pylist() == [key for key, _ in read if key not in known]


@given(events)
def test_an_event_takes_sixteen_characters(rows: list) -> None:
    assert sum(map(len, pack(table(rows), START).hours.values())) == 16 * len(rows)


@given(events, st.integers(0, 300))
def test_events_before_the_horizon_are_not_packed(rows: list, minutes: int) -> None:
    since = START + timedelta(minutes=minutes)
    assert sum(map(len, pack(table(rows), since).hours.values())) == 16 * sum(at >= minutes for _, at in rows)


@given(events, events)
def test_merging_two_memories_knows_what_either_knew(one: list, other: list) -> None:
    seen = merge(pack(table(one), START), pack(table(other), START))
    assert unseen(table(one + other), seen).num_rows == 0
    assert list(seen.hours) == sorted(seen.hours)


@given(events)
def test_forgetting_drops_whole_hours_only(rows: list) -> None:
    kept = forget(pack(table(rows), START), START + timedelta(hours=2))
    assert unseen(table(rows), kept).num_rows == sum(at < 120 for _, at in rows)


@given(events, st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), max_size=3))
def test_rows_within_windows_are_those_whose_time_lies_in_one(rows: list, spans: list) -> None:
    spans = [(first, first + length) for first, length in spans]
    windows = [Window(START + timedelta(minutes=first), START + timedelta(minutes=end)) for first, end in spans]
    expected = [key for key, minutes in rows if any(first <= minutes < end for first, end in spans)]
    assert within(table(rows), windows)["event_key"].to_pylist() == expected


def test_a_table_that_lies_in_a_window_is_not_copied() -> None:
    whole = table([(f"{number:032x}", number) for number in range(20)])
    assert within(whole, [Window(START, START + timedelta(minutes=20))]) is whole


def test_times_finer_than_a_microsecond_lie_in_the_window_of_their_millisecond() -> None:
    nanoseconds = pa.array([1_795_068_000_040_999_999, 1_795_068_000_041_000_000], pa.timestamp("ns", tz="UTC"))
    rows = pa.table({"event_time": nanoseconds})
    at = datetime(2026, 11, 19, 6, 0, 0, 40_000, tzinfo=UTC)
    windows = [Window(at, at + timedelta(milliseconds=1)), Window(at, at + timedelta(milliseconds=2))]
    assert [within(rows, [window]).num_rows for window in windows] == [1, 2]
