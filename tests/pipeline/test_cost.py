"""What a run costs, in calls, that comes again every hour."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("recover", ["off", "auto", "all"])
def test_a_run_with_nothing_new_costs_two_calls_whatever_recover_says(rig_of: Callable[..., Any], recover: str) -> None:
    rig = rig_of(events=100, span_seconds=3600.0)
    rig.run(recover=recover)
    for _ in range(2):
        report = rig.run(recover=recover)
        assert (report.calls, report.sinks[0].rows) <= (2, 0)


def test_columns_are_asked_for_where_something_is_new_and_nowhere_else(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=400, span_seconds=5 * 3600.0)
    first = rig.run(recover="all")
    rig.grow(3, rig.now - 3 * HOUR, rig.now - 3 * HOUR + timedelta(minutes=1))  # late
    report = rig.run(recover="all")
    assert report.sinks[0].rows == report.sinks[0].late_rows == 3
    assert report.calls <= first.calls
    assert {row["fidelity"] for row in rig.rows()} == {"recovered"}
    assert sum(row["action_type"] is None for row in rig.rows()) == 0
    rig.assert_everything_once()


def test_a_known_gap_within_a_millisecond_is_not_narrowed_again(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"api-context": 1})
    account = rig.stream.account_id
    odd = next(one for one in rig.world.records(account) if one.get("actor", {}).get("context") == "api")
    at = (rig.now - HOUR / 2).strftime("%Y-%m-%dT%H:%M:%S.123456Z")
    rig.world.add(account, [{**odd, "id": "finer", "action": {**odd["action"], "time": at}}])
    assert len(rig.run().gaps) == 2
    assert rig.run().calls <= 4 + 3 * 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_known_gaps_cost_a_call_each(rig_of: Callable[..., Any], seed: int) -> None:
    options = {"span_seconds": 2.4 * 3600.0, "ties": 0.05, "twins": 0.02, "seed": seed}
    rig = rig_of(events=300, poison={"delegated-service": 20}, **options)
    rig.run()
    for _ in range(2):
        report = rig.run()
        assert (sum(gap.rows for gap in report.gaps), report.sinks[0].rows) == (20, 0)
        assert report.calls <= 8 + 20


def test_new_rows_come_before_anything_that_is_read_again(rig_of: Callable[..., Any], shelf: Any) -> None:
    rig = rig_of(events=50, span_seconds=3600.0)
    sink = shelf()
    rig.run({"shelf": sink})
    rig.grow(5, rig.now - HOUR, rig.now)  # late
    rig.grow(7, rig.now, rig.now + HOUR)
    rig.now += HOUR
    rig.run({"shelf": sink})
    _, new, late = [table.num_rows for table in sink.batches.values() if table.num_rows != 1]
    assert (new, late) == (7, 5)


@pytest.mark.parametrize("seed", [0, 5, 8])
def test_rejected_rows_behind_an_end_that_came_nearer_are_not_taken_for_others(
    rig_of: Callable[..., Any], seed: int
) -> None:
    rig = rig_of(events=300, seed=seed, span_seconds=2.4 * 3600.0, poison={"array-response": 20})
    for _ in range(2):
        report = rig.run(recover="off")
        assert (report.error, report.exit_code) == (None, 65)
    assert len(rig.rows()) == 280
