"""Planning: what is wanted, less what is covered, plus the rescan horizon."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cfaudit_export.core.model import Checkpoint, Gap, Seen, SeenWindow, SinkProgress, Stream, Trimmed, Window
from cfaudit_export.pipeline.plan import plan_stream
from cfaudit_export.pipeline.request import RunRequest

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LAG = timedelta(minutes=5)
SETTLED = NOW - LAG
STREAM = Stream("0" * 32, "auditlogs")


def request(since: datetime | None = None, until: datetime | None = None) -> RunRequest:
    return RunRequest(since, until, LAG, retry=0)


def hours(start: float, end: float) -> Window:
    return Window(SETTLED - timedelta(hours=start), SETTLED - timedelta(hours=end))


def checkpoint(**sinks: SinkProgress) -> Checkpoint:
    return Checkpoint(STREAM, sinks)


def test_the_first_run_asks_for_thirty_days_up_to_the_settle_lag() -> None:
    plan = plan_stream(None, ["parquet"], request(), NOW)
    assert plan.read == (Window(SETTLED - timedelta(days=30), SETTLED),)
    assert plan.rescan == {"parquet": ()}


def test_the_second_run_asks_for_what_is_new_and_looks_again_at_the_horizon() -> None:
    known = SinkProgress(covered=(hours(720, 1),), seen_since=SETTLED - timedelta(hours=7))
    plan = plan_stream(checkpoint(parquet=known), ["parquet"], request(), NOW)
    assert plan.missing["parquet"] == (hours(1, 0),)
    assert plan.rescan["parquet"] == (hours(7, 1),)
    assert plan.read == (hours(7, 0),)


def test_after_a_long_silence_the_horizon_starts_where_the_last_run_remembered() -> None:
    known = SinkProgress(covered=(hours(720, 100),), seen_since=SETTLED - timedelta(hours=106))
    plan = plan_stream(checkpoint(parquet=known), ["parquet"], request(), NOW)
    assert plan.read == (hours(106, 0),)


def test_a_hole_that_a_broken_run_left_is_read() -> None:
    known = SinkProgress(covered=(hours(20, 15), hours(10, 0)))
    plan = plan_stream(checkpoint(parquet=known), ["parquet"], request(), NOW)
    assert plan.read == (hours(15, 10),)


def test_a_second_sink_that_lags_behind_makes_its_part_be_read_again_for_it_alone() -> None:
    ahead, behind = SinkProgress(covered=(hours(20, 0),)), SinkProgress(covered=(hours(20, 5),))
    plan = plan_stream(checkpoint(parquet=ahead, s3=behind), ["parquet", "s3"], request(), NOW)
    assert plan.read == (hours(5, 0),)
    assert plan.missing == {"parquet": (), "s3": (hours(5, 0),)}


def test_nothing_is_wanted_when_all_is_covered() -> None:
    plan = plan_stream(checkpoint(parquet=SinkProgress(covered=(hours(20, 0),))), ["parquet"], request(), NOW)
    assert plan.wanted is None
    assert plan.read == ()


def test_since_and_until_bound_the_wish_and_leave_the_horizon_alone() -> None:
    known = SinkProgress(covered=(hours(20, 0),), seen_since=SETTLED - timedelta(hours=6))
    since, until = SETTLED - timedelta(hours=30), SETTLED - timedelta(hours=10)
    plan = plan_stream(checkpoint(parquet=known), ["parquet"], request(since, until), NOW)
    assert plan.read == (hours(30, 20),)


def test_until_never_reaches_into_what_has_not_settled() -> None:
    plan = plan_stream(None, ["parquet"], request(SETTLED - timedelta(hours=1), NOW + timedelta(days=1)), NOW)
    assert plan.read == (hours(1, 0),)


def test_times_finer_than_a_millisecond_are_cut() -> None:
    plan = plan_stream(None, ["parquet"], request(SETTLED - timedelta(microseconds=3_000_001)), NOW)
    assert plan.read[0].since == SETTLED - timedelta(milliseconds=3001)


def test_calls_are_spent_on_new_rows_first_then_on_old_ones_then_on_columns_then_on_gaps() -> None:
    old, older = hours(100, 99), hours(200, 199)
    gaps = tuple(Gap(one, 1, "odd", SETTLED - timedelta(days=9), SETTLED - timedelta(days=8)) for one in (older, old))
    known = SinkProgress(
        covered=(hours(720, 1),),
        seen_since=SETTLED - timedelta(hours=7),
        seen=Seen(gaps=tuple(SeenWindow(one.window, "") for one in gaps)),
        trimmed=(Trimmed(hours(50, 40), 9, SETTLED),),
    )
    state = replace(checkpoint(parquet=known), gaps=(replace(gaps[0], shadows=("ab" * 16,)), gaps[1]))
    plan = plan_stream(state, ["parquet"], replace(request(), retry=5), NOW)
    steps = [(step.how, step.windows) for step in plan.steps(SETTLED - timedelta(hours=6)) if step.windows]
    assert steps == [
        ("extract", (hours(1, 0),)),
        ("reread", (hours(7, 1),)),
        ("complete", (hours(50, 40),)),
        ("reread", (older,)),
        ("extract", (old,)),
    ]


def test_an_end_that_was_asked_for_completes_nothing() -> None:
    known = SinkProgress(covered=(hours(720, 0),), trimmed=(Trimmed(hours(50, 40), 9, SETTLED),))
    plan = plan_stream(checkpoint(parquet=known), ["parquet"], request(until=SETTLED), NOW)
    assert plan.trimmed == {"parquet": ()}
