"""Runs of one stream: whatever the pieces, the order, the gaps and the silences, every event once."""

from __future__ import annotations

import gc
import tempfile
import weakref
from collections.abc import Callable
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_export.core.model import Checkpoint
from cfaudit_export.errors import ExitCode
from cfaudit_export.pipeline.plan import is_due
from cfaudit_export.pipeline.transform import NamedTransform, Transforms
from cfaudit_export.plugin.interfaces import Extract

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


class PowerCutError(BaseException):
    """Stands for the end of the process: nothing below a test catches it."""


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 1_000),
    page_size=st.sampled_from([40, 100, 1000]),
    piece_rows=st.sampled_from([50, 300, 20_000]),
    concurrency=st.integers(1, 6),
    cuts=st.lists(st.integers(1, 1439), max_size=3, unique=True).map(sorted),
    back=st.booleans(),
)
def test_the_ids_do_not_depend_on_how_the_events_were_read(
    rig_in: Any, *, seed: int, page_size: int, piece_rows: int, concurrency: int, cuts: list[int], back: bool
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        rig_in(Path(folder), seed=seed, events=250, ties=0.5, twins=0.4) as rig,
    ):
        rig.run(sinks={"plain": rig.parquet("plain")})
        config = {"page_size": page_size, "piece_rows": piece_rows, "concurrency": concurrency}
        start = rig.now - 2 * DAY
        moments = [start, *(start + DAY + cut * MINUTE for cut in cuts), rig.now]
        windows = list(pairwise(moments))
        for since, until in reversed(windows) if back else windows:
            rig.run(sinks={"cut": rig.parquet("cut")}, config=config, since=since, until=until)
        plain, cut = ({(row["event_id"], row["event_raw"]) for row in rig.rows(name)} for name in ("plain", "cut"))
        assert plain == cut
        rig.assert_everything_once("cut")


def test_a_run_with_nothing_new_writes_the_checkpoint_only_for_the_time_that_passed(rig: Any) -> None:
    rig.run()
    before = (rig.checkpoint(), rig.rows())
    report = rig.run()
    assert report.exit_code == ExitCode.OK
    assert (rig.checkpoint(), rig.rows()) == before


def test_late_events_come_once_whatever_the_hour(rig: Any) -> None:
    rig.run()
    for hours in (1, 2, 1, 5):
        rig.now += hours * HOUR + 7 * MINUTE
        rig.grow(20, rig.now - 6 * HOUR, rig.now)
        assert rig.run().sinks[0].rows == 20
        rig.assert_everything_once()
    assert rig.checkpoint().lateness.count > 0


def test_after_a_long_silence_latecomers_come_and_their_keys_go_before_the_rest_is_read(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(events=300)
    rig.run()
    rig.grow(5, rig.now - 2 * HOUR, rig.now)  # late, and no run looks for ten days
    silence = rig.now
    rig.now += 10 * DAY
    rig.grow(300, silence, rig.now)
    longest = 0

    def measure(_progress: Any) -> None:
        nonlocal longest
        longest = max(longest, sum(map(len, rig.checkpoint().sinks["parquet"].seen.hours.values())) // 16)

    report = rig.run(progress=measure, config={"piece_rows": 50, "page_size": 50})
    assert report.sinks[0].late_rows == 5
    rig.assert_everything_once()
    assert longest < 200, "the keys of ten days were kept"
    assert rig.run().sinks[0].rows == 0


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5, 8, 11])
def test_a_first_run_that_dies_loses_nothing_however_its_pieces_came(
    rig_of: Callable[..., Any], killed_after: int
) -> None:
    rig = rig_of(events=400, span_seconds=20 * 86_400.0)
    config = {"piece_rows": 40, "page_size": 40, "concurrency": 5}
    calls = count(1)

    def die(_progress: Any) -> None:
        if next(calls) == killed_after:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        rig.run(config=config, progress=die)
    rig.now += 2 * HOUR
    rig.run(config=config)
    rig.assert_everything_once()
    assert len(rig.checkpoint().sinks["parquet"].covered) == 1


def test_a_first_run_that_dies_between_a_promise_and_its_load_delivers_once(
    rig_of: Callable[..., Any], shelf: Any
) -> None:
    rig = rig_of(events=400, span_seconds=20 * 86_400.0)
    sink = shelf()
    sink.error = PowerCutError()
    with pytest.raises(PowerCutError):
        rig.run({"shelf": sink})
    sink.error = None
    rig.now += 2 * HOUR
    # Other pieces than before: what is read twice would come under another batch id.
    rig.run({"shelf": sink}, config={"piece_rows": 30, "page_size": 30})
    assert sink.texts() == rig.truth()
    assert len(set(sink.ids())) == len(sink.ids())


@pytest.mark.parametrize("had_it", [False, True])
def test_where_the_disk_is_lost_the_sink_is_asked(rig: Any, shelf: Any, *, had_it: bool) -> None:
    class Dying(type(shelf())):  # type: ignore[misc]  # the class comes from a fixture
        def load(self, batch: Any) -> Any:
            if had_it:
                super().load(batch)
            raise PowerCutError

    dying = Dying()
    with pytest.raises(PowerCutError):
        rig.run({"shelf": dying})
    [promised] = rig.checkpoint().sinks["shelf"].intents
    for path in rig.staging.rglob("*.arrow"):
        path.unlink()
    sink = shelf(batches=dying.batches, refused=dying.refused)
    rig.now += HOUR
    rig.run({"shelf": sink}, config={"piece_rows": 70, "page_size": 70})
    assert sink.texts() == rig.truth()
    assert (promised.batch_id in sink.batches) == had_it
    assert rig.checkpoint().sinks["shelf"].intents == ()
    assert rig.checkpoint().sinks["shelf"].rows == 600


def test_a_staged_file_that_was_damaged_is_not_loaded(rig: Any, shelf: Any, down: Exception) -> None:
    sink = shelf(error=down)
    rig.run({"shelf": sink})
    [path] = rig.staging.rglob("*.arrow")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    sink.error = None
    rig.run({"shelf": sink})
    assert sink.texts() == rig.truth()
    assert rig.staged() == []


def test_an_old_gap_is_tried_again_and_its_row_comes_alone_when_it_heals(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=300, ties=0.9, twins=0.5, poison={"api-context": 4}, poison_placement="tied")
    assert rig.run().exit_code == ExitCode.INCOMPLETE
    gaps = rig.checkpoint().gaps
    for tries in range(1, 4):
        rig.now += 7 * DAY  # far behind the horizon
        rig.run(retry=10)
        assert {gap.attempts for gap in rig.checkpoint().gaps} == {1 + tries}
    assert {gap.first_seen_at for gap in rig.checkpoint().gaps} == {gaps[0].first_seen_at}
    rig.world.heal(rig.stream.account_id)
    rig.now += 7 * DAY
    report = rig.run(retry=10)
    assert report.exit_code == ExitCode.OK
    rig.assert_everything_once()
    assert report.sinks[0].late_rows == 0
    assert rig.checkpoint().sinks["parquet"].seen.gaps == ()


def test_the_older_a_gap_is_the_longer_it_waits_for_its_next_try(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=60, poison={"api-context": 1})
    start = rig.now
    rig.run(rescan=timedelta(0))
    tried = []
    for hours in range(1, 15 * 24):
        rig.now = start + hours * HOUR
        attempts = rig.checkpoint().gaps[0].attempts
        if is_due(rig.checkpoint().gaps[0], rig.now):
            rig.run(rescan=timedelta(0))
        tried += [hours] * (rig.checkpoint().gaps[0].attempts - attempts)
    assert tried == [1, 7, 31, 31 + 7 * 24]
    rig.now += MINUTE
    assert rig.run(only_gaps=True).gaps[0].attempts == len(tried) + 2, "who asks for it does not wait"


def test_only_a_few_old_gaps_are_tried_by_a_run_and_all_get_their_turn(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=300, poison={"api-context": 6})
    rig.run()
    rig.now += DAY
    rig.run(retry=0)  # the last look at the former horizon
    before = [gap.attempts for gap in rig.checkpoint().gaps]
    for turn in range(1, 4):
        rig.now += 7 * DAY
        rig.run(retry=2)
        assert sum(gap.attempts for gap in rig.checkpoint().gaps) == sum(before) + 2 * turn
    assert [gap.attempts for gap in rig.checkpoint().gaps] == [attempts + 1 for attempts in before]
    rig.world.heal(rig.stream.account_id)
    while rig.checkpoint().gaps:
        rig.now += 7 * DAY
        rig.run(retry=2)
    rig.assert_everything_once()


def test_a_gap_that_healed_while_a_sink_was_away_is_filled_for_it_too(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=300, ties=0.5, twins=0.3, poison={"api-context": 3}, poison_placement="tied")
    one, other = {"one": rig.parquet("one")}, {"other": rig.parquet("other")}
    rig.run(one | other)
    rig.world.heal(rig.stream.account_id)
    rig.now += DAY
    rig.run(one, retry=10)
    assert rig.checkpoint().gaps == ()
    rig.assert_everything_once("one")
    rig.now += DAY
    rig.run(one | other, retry=0)
    rig.assert_everything_once("one")
    rig.assert_everything_once("other")


def test_a_tool_that_changed_is_reported_once(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    rig.run()
    found = rig.store.load(rig.stream.id)
    earlier = Checkpoint(rig.stream, found.checkpoint.sinks, tool="0123456789abcdef")
    rig.store.save(earlier, expected=found.version)
    for _ in range(2):
        rig.run()
    assert [record.was for record in caplog.records if "tool has changed" in record.message] == ["0123456789abcdef"]


def test_a_piece_costs_two_writes_of_the_checkpoint(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    from cfaudit_export.stores import file

    replace = file._replace
    monkeypatch.setattr(file, "_replace", lambda path, document: (saved.append(path), replace(path, document)))
    report = rig.run(config={"piece_rows": 100, "page_size": 100})
    assert report.windows > 5
    assert len(saved) <= 2 * report.windows + 1


def test_a_piece_is_gone_from_memory_when_its_sinks_load_it(rig: Any, shelf: Any) -> None:
    tables: list[weakref.ref[Any]] = []
    left: list[object] = []
    of_other_tests = [one for one in gc.get_objects() if isinstance(one, Extract)]

    def note(table: Any) -> Any:
        tables.append(weakref.ref(table))
        return table

    class Watchful(shelf):  # type: ignore[misc]  # the class is a fixture
        def load(self, batch: Any) -> Any:
            found = (one for one in gc.get_objects() if isinstance(one, Extract))
            left.extend(one for one in found if not any(one is other for other in of_other_tests))
            left.extend(table for one in tables if (table := one()) is not None)
            return super().load(batch)

    sink = Watchful()
    report = rig.run(
        {"shelf": sink}, {"piece_rows": 100, "page_size": 100}, transforms=Transforms((NamedTransform("note", note),))
    )
    assert len(tables) == report.windows > sink.loads > 4  # one is empty
    assert left == []


def test_intervals_in_a_row_find_latecomers_of_those_before(rig: Any) -> None:
    """As a scheduler runs them, and one of them again afterwards."""
    start = rig.now
    rig.run(until=start, latecomers=True)
    for number in range(3):
        since = start + number * HOUR
        rig.now = since + HOUR + MINUTE
        rig.grow(10, since - 3 * HOUR, since)
        rig.grow(10, since, since + HOUR)
        assert rig.run(since=since, until=since + HOUR, latecomers=True).sinks[0].rows == 20
    again = rig.run(since=start, until=start + HOUR, latecomers=True)
    assert again.sinks[0].rows == 0
    rig.assert_everything_once()
