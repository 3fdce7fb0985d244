"""The gaps of a checkpoint: what sinks lack, whatever else is known of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cfaudit_export import Checkpoint, Gap, Stream, Window
from cfaudit_export.core.gaps import lacking, open_gaps
from cfaudit_export.core.intervals import union
from cfaudit_export.core.model import Intent, Seen, SeenWindow, SinkProgress
from cfaudit_export.pipeline.plan import plan_stream
from cfaudit_export.pipeline.request import RunRequest

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def span(first: int, last: int) -> Window:
    return Window(NOON + timedelta(minutes=first), NOON + timedelta(minutes=last))


def sink(*gaps: Window, covered: Window | None = None, promised: tuple[Window, ...] = ()) -> SinkProgress:
    entries = tuple(SeenWindow(one, "") for one in promised)
    intents = (Intent("ab" * 16, span(60, 120), 1, "cd" * 32, Seen(gaps=entries)),) if promised else ()
    seen = Seen(gaps=tuple(SeenWindow(one, "") for one in gaps))
    return SinkProgress((covered or span(0, 60),), seen, intents=intents)


def checkpoint(*known: Window, **sinks: SinkProgress) -> Checkpoint:
    gaps = tuple(Gap(one, 3, "no", NOON, NOON) for one in known)
    return Checkpoint(Stream("a" * 32, "auditlogs"), sinks, gaps, updated_at=NOON)


STATES = {
    "one that all sinks lack": (checkpoint(span(1, 2), a=sink(span(1, 2)), b=sink(span(1, 2))), [span(1, 2)]),
    "one that a sink alone lacks": (checkpoint(a=sink(span(1, 2)), b=sink()), [span(1, 2)]),
    "known, and lacked in part": (checkpoint(span(1, 9), a=sink(span(3, 4), span(6, 7))), [span(3, 4), span(6, 7)]),
    "known, and lacked by no sink": (checkpoint(span(1, 2), a=sink()), []),
    "of time that a sink does not cover": (checkpoint(a=sink(span(70, 80))), []),
}


@pytest.mark.parametrize("name", STATES)
def test_what_is_listed_is_what_a_retry_reads(name: str) -> None:
    state, expected = STATES[name]
    listed = open_gaps(state)
    assert [gap.window for gap in listed] == expected
    request = RunRequest(settle_lag=timedelta(), only_gaps=True)
    assert plan_stream(state, state.sinks, request, NOON + timedelta(days=1)).read == union(*expected)


def test_a_part_of_a_gap_has_an_unknown_number_of_rows() -> None:
    assert [gap.rows for gap in open_gaps(STATES["one that all sinks lack"][0])] == [3]
    assert [gap.rows for gap in open_gaps(STATES["known, and lacked in part"][0])] == [0, 0]


def test_what_another_sink_has_says_which_sinks_are_to_get_it() -> None:
    state = checkpoint(a=sink(span(1, 2)), b=sink(), c=sink(span(1, 2)))
    assert [gap.reason for gap in open_gaps(state)] == ["another sink has its rows; the next run reads it for 'a', 'c'"]


def test_only_the_sinks_that_count_are_looked_at() -> None:
    state = checkpoint(a=sink(span(1, 2)), b=sink(span(3, 4)))
    assert [gap.window for gap in open_gaps(state, ["b", "new"])] == [span(3, 4)]
    assert open_gaps(state, ["new"]) == ()


def test_what_is_promised_with_a_gap_is_one() -> None:
    state = checkpoint(span(70, 71), a=sink(promised=(span(70, 71),)))
    assert [gap.window for gap in open_gaps(state)] == [span(70, 71)]
    assert lacking(replace(state.sinks["a"])) == ()
