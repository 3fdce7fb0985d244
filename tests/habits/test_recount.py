"""The second way to read a window, which `verify` compares exports with: it believes neither cursors nor page sizes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bad_habits import Habit, World, habits, machine, world
from bad_habits.cases import dense, line
from bad_habits.runs import SINCE, UNTIL
from cfaudit_export import Window
from cfaudit_export.core.model import to_ms

BOTH = pytest.mark.parametrize("source", ["auditlogs", "codemode"])
PLAIN = world(line(120))


def read(truth: World, source: Any, *faults: Habit, rows: int = 13) -> tuple[Counter[str], list[tuple[int, int]]]:
    with machine(truth, *faults, source=source) as one, one.connected() as opened:
        extract = opened.recount(Window(SINCE, UNTIL), rows)
    gaps = [(to_ms(gap.window.since), to_ms(gap.window.before)) for gap in extract.gaps]
    return Counter(extract.events["event_raw"].to_pylist()), gaps


@BOTH
@pytest.mark.parametrize(
    "faults",
    [
        (),
        (habits.strips_cursor(),),
        (habits.caps(7), habits.strips_cursor()),
        (habits.repeats_cursor(),),
        (habits.counts_wrong(5),),
        (habits.ignores("limit"),),
    ],
    ids=str,
)
def test_everything_is_read(source: Any, faults: tuple[Habit, ...]) -> None:
    assert read(PLAIN, source, *faults) == (PLAIN.texts(source), [])


@BOTH
@pytest.mark.parametrize("nature", [{}, {"since_includes": False, "before_includes": True}, {"cursors": "offset"}])
def test_a_millisecond_that_fills_pages_is_read_by_cursor(source: Any, nature: dict[str, Any]) -> None:
    truth = dense(40, around=5, **nature)
    assert read(truth, source) == (truth.texts(source), [])
    beside = world([*[5] * 30, *[6] * 30, 7], **nature)
    assert read(beside, source, rows=2) == (beside.texts(source), [])


def test_where_rows_are_rejected_it_could_not_look() -> None:
    truth = world(range(0, 600_000, 3_000), odd=[50, 51, 130])
    found, gaps = read(truth, "auditlogs")
    missing = truth.texts("auditlogs") - found
    assert not found - truth.texts("auditlogs")
    assert 3 <= missing.total() <= 9
    for event in truth.events:
        if event.odd:
            assert any(since <= event.at_ms < before for since, before in gaps)
    assert all(before - since <= 1_000 for since, before in gaps)
