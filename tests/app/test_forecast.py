"""How many events a first run will find, reckoned from a few probes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export import Checkpoint, Connection, Stream, Window
from cfaudit_export.app.forecast import expected_by_history, expected_by_probes
from cfaudit_export.core.model import SinkProgress
from cfaudit_export.plugin.interfaces import Extract

START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def span(first: float, last: float) -> Window:
    return Window(START + first * HOUR, START + last * HOUR)


@dataclass
class Steady:
    """A source with so many events an hour, at equal distances; it notes what was read."""

    per_hour: int
    read: list[Window] = field(default_factory=list)

    def connect(self) -> Connection:
        raise NotImplementedError

    def probe(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        for window in windows:
            self.read.append(window)
            rows = round(window.duration / HOUR * self.per_hour)
            yield Extract(window, pa.table({"event_raw": ["{}"] * rows}), (), START, 1)


def test_the_newest_hour_the_oldest_and_some_in_between_are_read() -> None:
    source = Steady(100)
    expected = expected_by_probes(source, [span(0, 720)])
    assert expected.events == expected.least == expected.most == 72_000
    assert expected.probes == len(source.read) == 8
    assert (source.read[0].since, source.read[-1].before) == (START, START + 720 * HOUR)
    assert {window.duration for window in source.read} == {HOUR}


def test_what_is_short_is_counted_whole() -> None:
    source = Steady(1_000)
    expected = expected_by_probes(source, [span(0, 2), span(5, 6)])
    assert abs(expected.events - 3_000) <= 8
    assert sum((window.duration for window in source.read), timedelta()) <= 3 * HOUR


def test_nothing_to_read_takes_no_probe() -> None:
    source = Steady(10)
    assert expected_by_probes(source, []).events == 0
    assert source.read == []


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 3_000_000), min_size=2, max_size=8, unique=True),
    per_hour=st.integers(0, 3_000),
)
def test_probes_lie_in_the_windows_and_never_twice(cuts: list[int], per_hour: int) -> None:
    edges = sorted(cuts)[: len(cuts) // 2 * 2]
    windows = [
        Window(START + timedelta(milliseconds=first), START + timedelta(milliseconds=last))
        for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]
    source = Steady(per_hour)
    expected = expected_by_probes(source, windows)
    assert all(one.before <= other.since for one, other in zip(source.read, source.read[1:], strict=False))
    assert all(windows[0].since <= one.since < one.before for one in source.read)
    assert expected.least <= max(expected.events, expected.least) <= max(expected.most, expected.least)


@pytest.mark.parametrize(("wanted", "events"), [(24 * HOUR, 240), (HOUR, 10), (timedelta(), 0)])
def test_after_a_run_its_rows_tell(wanted: timedelta, events: int) -> None:
    done = SinkProgress(covered=(span(0, 48),), rows=480)
    expected = expected_by_history(Checkpoint(Stream("a" * 32, "auditlogs"), {"parquet": done}), wanted)
    assert expected is not None
    assert (expected.events, expected.probes) == (events, 0)


def test_before_the_first_run_nothing_is_known() -> None:
    assert expected_by_history(None, HOUR) is None
