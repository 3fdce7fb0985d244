"""Slices of a stream: run beside each other and beside the stream, given up, cut anew; every event once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from cfaudit_export import LockedError, SinkError, TryAgainError, Window
from cfaudit_export.core.intervals import cut
from cfaudit_export.core.model import Checkpoint
from cfaudit_export.errors import ExitCode
from cfaudit_export.pipeline.slices import LockWait

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def day_of(rig: Any) -> Window:
    return Window(rig.now - 25 * HOUR, rig.now)


def own(rig: Any, part: Window) -> Checkpoint:
    found = rig.store.load(replace(rig.stream, slice=part).id)
    assert found
    return found.checkpoint


def test_slices_in_any_order_become_the_stream_as_if_it_had_been_run(rig: Any) -> None:
    parts = cut(day_of(rig), 5)
    for part in (parts[3], parts[0], parts[4], parts[1], parts[2]):
        assert rig.run(part=part).exit_code == ExitCode.OK
    rig.assert_everything_once()
    progress = rig.checkpoint().sinks["parquet"]
    assert (progress.covered, progress.rows, rig.checkpoint().leased) == ((day_of(rig),), 600, ())


def test_latecomers_in_what_slices_exported_are_found_by_the_stream(rig: Any) -> None:
    rig.run(part=day_of(rig))
    rig.run()
    rig.grow(20, rig.now - 5 * HOUR, rig.now)
    rig.now += HOUR
    assert rig.run().sinks[0].rows == 20
    rig.assert_everything_once()


def test_a_slice_that_was_taken_back_and_is_run_again_reads_nothing(rig: Any) -> None:
    [early, late] = cut(day_of(rig), 2)
    rig.run(part=early)
    before = (rig.checkpoint(), rig.rows())
    again = rig.run(part=early)
    assert (again.windows, again.exit_code) == (0, ExitCode.OK)
    assert (rig.checkpoint(), rig.rows()) == before
    rig.run(since=late.since - 2 * HOUR)
    assert rig.run(part=late).windows == 0  # the stream had it
    rig.assert_everything_once()


def test_the_stream_leaves_alone_what_is_lent(rig: Any, shelf: Callable[..., Any]) -> None:
    part = Window(rig.now - 12 * HOUR, rig.now - 2 * HOUR)
    sink = shelf(error=SinkError("out of order"))
    assert rig.run(part=part, sinks={"parquet": sink}).exit_code == ExitCode.SINK_DOWN
    assert rig.checkpoint().leased == (part,)
    rig.run(since=rig.now - 25 * HOUR)
    assert rig.checkpoint().sinks["parquet"].covered == (
        Window(rig.now - 25 * HOUR, part.since),
        Window(part.before, rig.now),
    )
    # The staged batch is promised to the sink of this name, whatever it is now.
    assert rig.run(part=part).exit_code == ExitCode.OK
    assert rig.checkpoint().sinks["parquet"].covered == (Window(rig.now - 25 * HOUR, rig.now),)
    rig.assert_everything_once()


def test_a_slice_that_died_after_its_last_load_is_taken_back_by_the_next_try(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("cfaudit_export.pipeline.slices._release", _cut_power)
        with pytest.raises(PowerCutError):
            rig.run(part=day_of(rig))
    assert rig.checkpoint().leased == (day_of(rig),)
    assert rig.run(part=day_of(rig)).windows == 0
    assert (rig.checkpoint().leased, rig.checkpoint().sinks["parquet"].rows) == ((), 600)
    rig.assert_everything_once()


class PowerCutError(BaseException):
    """Stands for the end of the process: nothing below a test catches it."""


def _cut_power(*_: object) -> None:
    raise PowerCutError


def test_time_that_is_cut_anew_takes_back_what_unfinished_slices_have(rig: Any) -> None:
    [first, second] = cut(day_of(rig), 2)
    small = {"piece_rows": 50, "page_size": 40, "concurrency": 1}
    with pytest.raises(PowerCutError):
        rig.run(part=first, config=small, progress=_at_the_third(_cut_power))
    done = own(rig, first).sinks["parquet"].rows
    assert 0 < done < 300
    rig.run(part=second)
    for part in cut(day_of(rig), 3):
        assert rig.run(part=part).exit_code == ExitCode.OK
    assert rig.checkpoint().sinks["parquet"].rows == 600
    assert rig.run(part=first).windows == 0
    assert (rig.checkpoint().sinks["parquet"].rows, rig.checkpoint().leased) == (600, ())
    rig.assert_everything_once()


def test_a_slice_that_died_while_it_loaded_has_to_be_run_itself(rig: Any) -> None:
    first = cut(day_of(rig), 2)[0]
    with pytest.raises(PowerCutError):
        rig.run(part=first, after_load=_cut_power)
    with pytest.raises(LockedError, match="has pending batches; run that slice first"):
        rig.run(part=day_of(rig))
    rig.run(part=first)
    rig.run(part=day_of(rig))
    rig.assert_everything_once()


def _at_the_third(action: Callable[..., None]) -> Callable[..., None]:
    calls = count(1)
    return lambda *_: action() if next(calls) == 3 else None


def test_a_slice_that_overlaps_one_that_runs_waits_for_it(rig: Any) -> None:
    early, late = cut(day_of(rig), 2)
    other = replace(rig.stream, slice=early)
    rig.run(part=late)
    with pytest.raises(PowerCutError):
        rig.run(part=early, progress=_cut_power)
    with rig.store.hold(other.id), pytest.raises(LockedError, match="is running; try again when it has ended"):
        rig.run(part=day_of(rig))


def test_a_stream_that_is_held_is_waited_for_as_long_as_it_is_to_be(rig: Any) -> None:
    ticks = count()
    with rig.store.hold(rig.stream.id), pytest.raises(LockedError):
        rig.run(part=day_of(rig))
    delays = list(LockWait(5, now=lambda: float(next(ticks))).delays())
    assert len(delays) == 4
    assert all(0 < delay <= 1 for delay in delays)


def test_a_slice_that_is_not_settled_says_when_it_will_be(rig: Any) -> None:
    part = Window(rig.now - HOUR, rig.now)
    with pytest.raises(TryAgainError, match="the end of the settle lag") as caught:
        rig.run(part=part, settle_lag=timedelta(minutes=5))
    assert caught.value.retry_after_seconds == 300


def test_gaps_of_a_slice_are_the_streams_afterwards_and_those_outside_stay(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=300, poison=("null-actor=4",))
    assert rig.run(since=rig.now - 8 * HOUR).exit_code in {ExitCode.OK, ExitCode.INCOMPLETE}
    before = rig.checkpoint().gaps
    parts = cut(Window(rig.now - 25 * HOUR, rig.now), 3)
    reports = [rig.run(part=part) for part in parts]
    gaps = rig.checkpoint().gaps
    assert set(before) <= set(gaps)
    assert len(gaps) == 4
    assert sum(len(report.gaps) for report in reports) + len(before) == 4
    assert rig.checkpoint().sinks["parquet"].covered == (Window(rig.now - 25 * HOUR, rig.now),)
