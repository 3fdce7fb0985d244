"""Which part of what is trimmed is completed next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.model import Window
from cfaudit_export.sources.auditlogs.completing import newest_part

START = datetime(2026, 11, 24, tzinfo=UTC)
WHOLE = Window(START, START + timedelta(hours=1))


def gaps(*ends: tuple[int, int]) -> list[Window]:
    return [Window(START + timedelta(seconds=since), START + timedelta(seconds=before)) for since, before in ends]


def test_a_part_ends_midway_to_the_next_gap() -> None:
    part = newest_part(WHOLE, gaps((10, 20), (40, 50), (60, 70)), 2)
    assert part == Window(START + timedelta(seconds=30), WHOLE.before)
    assert newest_part(WHOLE, gaps((10, 20), (40, 50), (60, 70)), 3) == WHOLE
    assert newest_part(WHOLE, gaps((10, 20)), 0) is None


def test_a_gap_at_the_end_counts_too() -> None:
    [end] = gaps((3590, 3600))
    part = newest_part(WHOLE, [*gaps((10, 20), (40, 50)), end], 1)
    assert part == Window(START + timedelta(seconds=1820), WHOLE.before)


@pytest.mark.parametrize(("most", "since"), [(1, 70), (2, 70), (3, 20)])
def test_no_part_begins_between_gaps_that_adjoin(most: int, since: int) -> None:
    part = newest_part(WHOLE, gaps((0, 10), (30, 40), (40, 60), (80, 90)), most)
    assert part == Window(START + timedelta(seconds=since), WHOLE.before)


@given(st.lists(st.tuples(st.integers(-5, 120), st.integers(1, 9)), max_size=12), st.integers(1, 6))
def test_parts_come_to_an_end_and_cut_no_gap(drawn: list[tuple[int, int]], most: int) -> None:
    some: list[tuple[int, int]] = []
    for since, length in sorted(drawn):
        at = max(since, some[-1][1] if some else since)
        some.append((at, at + length))
    mine, left = gaps(*some), WHOLE
    while part := newest_part(left, mine, most):
        assert part.before == left.before
        assert part == left or not any(gap.since < part.since < gap.before for gap in mine)
        if part == left:
            return
        left = Window(left.since, part.since)
    raise AssertionError("no part")
