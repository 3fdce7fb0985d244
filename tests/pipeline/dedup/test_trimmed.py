"""Rows that came trimmed, as calls ran out, come again with all columns and replace what was delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_export.core.intervals import contains
from cfaudit_export.core.model import (
    MILLISECOND,
    Gap,
    Seen,
    SeenWindow,
    SinkProgress,
    Trimmed,
    Trimming,
    Window,
    iso,
)
from cfaudit_export.errors import ExitCode
from cfaudit_export.pipeline.dedup.missing import SinkNeed, new_rows_of
from cfaudit_export.pipeline.dedup.seen import packed
from cfaudit_export.pipeline.dedup.trimmed import MOST_INTERVALS, to_complete, trimmed_after
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.schema import schema
from cfaudit_sandbox.world.poison import spoil

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POOR = {"budget_calls": 12}  # enough for pages, and to spare for no column


class PowerCutError(BaseException):
    """Stands for the end of the process: nothing below a test catches it."""


def current(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what readers see: rows that no other has taken the place of."""
    gone = {row["replaces"] for row in rows}
    return [row for row in rows if row["event_id"] not in gone]


def assert_every_event_once(rig: Any, name: str = "out", *, shadows: int = 0) -> list[dict[str, Any]]:
    rows = rig.rows(name)
    ids = {row["event_id"] for row in rows}
    assert len(ids) == len(rows)
    named = [row["replaces"] for row in rows if row["replaces"]]
    assert len(set(named)) == len(named)
    assert set(named) <= ids
    seen = current(rows)
    assert Counter(row["event_raw"] for row in seen if row["fidelity"] != "shadow") == rig.truth()
    assert sum(row["fidelity"] == "shadow" for row in seen) == shadows
    return seen


def trimmed(rows: list[dict[str, Any]]) -> int:
    return sum(row["fidelity"] == "trimmed" for row in rows)


def progress(rig: Any, sink: str = "parquet") -> SinkProgress:
    found: SinkProgress = rig.checkpoint().sinks[sink]
    return found


def test_rows_that_came_trimmed_are_completed_when_there_are_calls_to_spare(rig: Any) -> None:
    report = rig.run(recover="auto", config=POOR)
    assert (report.trimmed, report.completed, report.exit_code) == (600, 0, ExitCode.OK)
    assert progress(rig).trimmed_rows == sum(one.rows for one in progress(rig).trimmed) == 600
    report = rig.run(recover="auto", config=POOR)
    assert (report.trimmed, report.completed, report.sinks[0].rows) == (0, 0, 0)
    report = rig.run(recover="auto")
    assert (report.trimmed, report.completed, report.sinks[0].rows) == (0, 600, 600)
    assert report.sinks[0].late_rows == rig.checkpoint().lateness.count == 0
    seen = assert_every_event_once(rig)
    assert {row["fidelity"] for row in seen} == {"recovered"}
    assert all(row["action_type"] and row["event_key"] == row["replaces"] for row in seen)
    assert (progress(rig).trimmed, progress(rig).trimmed_rows) == ((), 0)
    assert rig.run(recover="auto").sinks[0].rows == 0


def test_columns_that_lack_for_a_day_are_a_warning_or_where_that_is_asked_for_a_failure(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert rig.run(recover="auto", config=POOR, fail_on_trimmed=True).exit_code == ExitCode.OK
    rig.now += DAY + HOUR
    assert rig.run(recover="auto", config=POOR).exit_code == ExitCode.OK
    assert "columns are missing for more than a day" in caplog.messages
    assert rig.run(recover="auto", config=POOR, fail_on_trimmed=True).exit_code == ExitCode.INCOMPLETE
    assert rig.run(recover="auto", fail_on_trimmed=True).exit_code == ExitCode.OK


def test_rows_beside_gaps_are_completed_within_the_budget_of_a_user(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=200, span_seconds=4 * 3600.0, ties=0.0, twins=0.0, poison={"delegated-service": 4})
    rig.run(recover="auto", token="user", config={"budget_calls": 320}, max_wait=0.0)
    assert progress(rig).trimmed_rows == 196
    user = {"recover": "auto", "token": "user", "config": {"budget_calls": 600}, "max_wait": 0.0}
    done = [rig.run(**user).completed for _ in range(3)]
    assert sum(done) == 196
    assert [one.error for one in rig.reports] == [None] * 4
    assert progress(rig).trimmed == ()
    shadows = sum(row["fidelity"] == "shadow" for row in rig.rows())
    assert trimmed(assert_every_event_once(rig, shadows=shadows)) == 0


USER = {"recover": "auto", "token": "user", "max_wait": 0.0}


def test_readable_rows_in_the_millisecond_of_a_rejected_one_are_completed_while_it_stays_rejected(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(events=100, ties=0.5, twins=0.3, poison={"delegated-service": 4}, poison_placement="tied")
    first = rig.run(config={"budget_calls": 300}, **USER)
    assert (first.trimmed, first.still_trimmed, len(first.gaps)) == (96, 96, 4)
    done = [rig.run(recover="auto") for _ in range(2)]
    assert [one.completed for one in done] == [96, 0]
    assert len(done[-1].gaps) == 4
    assert trimmed(assert_every_event_once(rig, shadows=4)) == 0
    assert (progress(rig).trimmed, progress(rig).trimmed_rows) == ((), 0)


@pytest.mark.parametrize("is_poor", [False, True])
def test_a_millisecond_that_heals_in_two_steps_has_each_trimmed_row_completed_once(
    rig_of: Callable[..., Any], *, is_poor: bool
) -> None:
    rig = rig_of(events=60, span_seconds=4 * 3600.0, ties=0.0, twins=0.0, poison={"array-response": 1})
    account, at = rig.stream.account_id, rig.now - HOUR
    rig.grow(1, at, at + MILLISECOND)  # one of the refused kind
    model = next(record for record in rig.world.records(account) if "response" not in record.get("resource", {}))
    beside = [model | {"id": name, "action": {**model["action"], "time": iso(at)}} for name in "abc"]
    spoil(beside[2], "long-id")
    rig.world.add(account, beside)
    poor = {"config": {"budget_calls": 330}, **USER}
    assert rig.run(**poor).trimmed == 61
    for flaws in (["given"], None):
        rig.world.heal(account, flaws)
        rig.now += 8 * DAY
        rig.run(retry=10, **(poor if is_poor else {"recover": "auto"}))
        assert progress(rig).trimmed_rows == trimmed(current(rig.rows()))
    rig.run(recover="auto")
    rows = rig.rows()
    cut = {row["event_id"] for row in rows if row["fidelity"] == "trimmed"}
    assert sorted(row["replaces"] for row in rows if row["replaces"] in cut) == sorted(cut)
    whole = {row["event_id"] for row in rows if row["fidelity"] == "recovered"}
    assert not whole & {row["replaces"] for row in rows}, "what has all columns is replaced by nothing"
    assert sum(one.completed for one in rig.reports) == len(cut)
    assert (progress(rig).trimmed, progress(rig).trimmed_rows) == ((), 0)


def test_what_is_trimmed_on_purpose_is_not_completed(rig: Any) -> None:
    assert rig.run(recover="off").trimmed == 0
    assert rig.run(recover="all").sinks[0].rows == 0
    assert progress(rig).trimmed == ()


def test_latecomers_come_as_they_are_and_what_was_trimmed_in_its_place_however_much_later(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(events=150, ties=0.5, twins=0.3)
    rig.run(recover="auto", config=POOR)
    for turn in range(3):
        rig.now += 3 * HOUR
        rig.grow(20, rig.now - 5 * HOUR, rig.now - 3 * HOUR)  # late, within what is trimmed
        rig.grow(10, rig.now - 3 * HOUR, rig.now)
        report = rig.run(recover="all" if turn == 1 else "auto", config={"budget_calls": 12 * (turn != 1)})
        assert report.sinks[0].rows - report.completed == 30
        assert_every_event_once(rig)
    assert progress(rig).trimmed_rows == trimmed(current(rig.rows()))
    rig.now += 30 * DAY
    rig.run(recover="auto")
    assert trimmed(assert_every_event_once(rig)) == 0
    assert progress(rig).trimmed_rows == 0


@pytest.mark.parametrize("loses_disk", [False, True])
@pytest.mark.parametrize("had_it", [False, True])
def test_a_crash_while_rows_are_completed_neither_loses_nor_doubles_any(
    rig: Any, shelf: Any, *, had_it: bool, loses_disk: bool
) -> None:
    class Dying(type(shelf())):  # type: ignore[misc]  # the class comes from a fixture
        def load(self, batch: Any) -> Any:
            if had_it:
                super().load(batch)
            raise PowerCutError

    good = shelf()
    rig.run({"shelf": good}, POOR, recover="auto")
    dying = Dying(batches=good.batches, refused=good.refused)
    with pytest.raises(PowerCutError):
        rig.run({"shelf": dying}, recover="auto")
    if loses_disk:
        for path in rig.staging.rglob("*.arrow"):
            path.unlink()
    sink = shelf(batches=dying.batches, refused=dying.refused)
    rig.now += 30 * HOUR
    rig.run({"shelf": sink}, {"piece_rows": 70, "page_size": 70}, recover="auto")
    rows = [row for table in sink.batches.values() for row in table.to_pylist()]
    assert len(rows) == 1200
    assert len({row["event_id"] for row in rows}) == 1200
    assert Counter(row["event_raw"] for row in current(rows)) == rig.truth()
    assert trimmed(current(rows)) == 0
    assert progress(rig, "shelf").trimmed == ()


def test_a_sink_that_came_later_has_nothing_to_complete_and_another_has(rig: Any) -> None:
    one, other = {"one": rig.parquet("one")}, {"other": rig.parquet("other")}
    rig.run(one, POOR, recover="auto")
    rig.run(one | other, recover="auto")
    for name in ("one", "other"):
        assert trimmed(assert_every_event_once(rig, name)) == 0
    assert len(rig.rows("one")) == 1200
    assert len(rig.rows("other")) == 600


AT = datetime(2026, 11, 20, tzinfo=UTC)


def interval(start: float, end: float, rows: int = 10, since: datetime = AT) -> Trimmed:
    return Trimmed(Window(AT + start * HOUR, AT + end * HOUR), rows, since)


def test_intervals_that_touch_become_one_and_what_is_completed_is_cut_out() -> None:
    after = trimmed_after(SinkProgress(), Trimming((interval(0, 1), interval(1, 2), interval(3, 4))))
    assert after.trimmed == (interval(0, 2, 20), interval(3, 4))
    cut = trimmed_after(after, Trimming(completed=(interval(0.5, 1).window,), rows=5))
    assert [one.window for one in cut.trimmed] == [
        interval(0, 0.5).window,
        interval(1, 2).window,
        interval(3, 4).window,
    ]
    assert cut.trimmed_rows == 25
    aged = trimmed_after(after, Trimming((interval(4, 5, since=AT + DAY),)))
    assert len(aged.trimmed) == 3, "what is younger has not waited so long"


def test_a_checkpoint_remembers_so_many_intervals_and_counts_the_rest() -> None:
    many = tuple(interval(2 * number, 2 * number + 1) for number in range(MOST_INTERVALS + 5))
    after = trimmed_after(SinkProgress(rows=1), Trimming(many))
    assert after.trimmed == many[5:]
    assert after.trimmed_rows == 10 * len(many)
    assert after.overdue_rows(AT) == 50
    assert after.overdue_rows(AT + DAY) == 10 * len(many)


def test_a_row_beside_a_gap_that_is_not_all_there_is_completed_once() -> None:
    start, keys = datetime(2026, 11, 24, tzinfo=UTC), ["a" * 32, "b" * 32]
    gap, part = Window(start, start + 10 * MILLISECOND), Window(start + 5 * MILLISECOND, start + HOUR)
    had = Seen(gaps=(SeenWindow(gap, "".join(map(packed, keys))),))
    whole = Window(start - HOUR, start + HOUR)
    before = SinkProgress(
        covered=(whole,), seen_since=start - HOUR, seen=had, rows=2, trimmed=(Trimmed(whole, 2, start),), trimmed_rows=2
    )
    row = {"event_key": keys[1], "event_id": keys[1], "event_time": start + 9 * MILLISECOND, "fidelity": "recovered"}
    table = pa.Table.from_pylist([row], schema=schema())
    refused = Gap(Window(part.since, gap.before), 1, "refused", start, start)
    extract = Extract(part, table, (refused,), start + HOUR, 1)
    need = SinkNeed("account", (part,), (), before, seen_since=start - HOUR, last_run_at=start)
    [(first, completed)] = new_rows_of(table, extract, need)
    assert completed["replaces"].to_pylist() == [keys[1]]
    after = trimmed_after(before, first.trimming)
    assert after.trimmed_rows == 1
    assert contains(to_complete(after), start)
    [(_, again)] = new_rows_of(table, extract, replace(need, progress=after))
    assert again.num_rows == 0
