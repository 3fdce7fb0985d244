"""A row that cannot be read is delivered as its shadow, and itself once it can be; never both without saying so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cfaudit_export.errors import SinkError

DAY = timedelta(days=1)


def shadows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["fidelity"] == "shadow"]


def events(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["fidelity"] != "shadow"]


def replaced(rows: list[dict[str, Any]]) -> list[str]:
    return [row["replaces"] for row in rows if row["replaces"]]


def assert_each_row_or_its_shadow(rig: Any, name: str = "out") -> None:
    rows = rig.rows(name)
    assert Counter(row["event_raw"] for row in events(rows)) == rig.truth()
    assert len({row["event_id"] for row in rows}) == len({row["event_key"] for row in rows}) == len(rows)
    left = {row["event_id"] for row in shadows(rows)} - set(replaced(rows))
    assert len(left) == len(rig.world.poison(rig.stream.account_id))


def test_a_shadow_is_delivered_once_and_makes_place_for_its_row(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 2})
    rig.run(recover="all")
    assert_each_row_or_its_shadow(rig)
    first = shadows(rig.rows())
    assert all(row["event_raw"] is None and row["raw_method"] and row["action_type"] for row in first)
    assert [set(gap.shadows) for gap in rig.checkpoint().gaps] == [
        {row["event_id"] for row in first if gap.window.since <= row["event_time"] < gap.window.before}
        for gap in rig.checkpoint().gaps
    ]
    for recover in ("off", "all"):  # the gap is read again, with and without what it takes to cast a shadow
        assert rig.run(recover=recover).sinks[0].rows == 0
        assert sum(len(gap.shadows) for gap in rig.checkpoint().gaps) == 2
    rig.world.heal(rig.stream.account_id)
    report = rig.run()
    assert (report.sinks[0].rows, report.gaps) == (2, ())
    assert_each_row_or_its_shadow(rig)
    assert sorted(replaced(rig.rows())) == sorted(row["event_id"] for row in first)
    assert rig.run().sinks[0].rows == 0


def test_of_several_shadows_in_a_millisecond_as_many_go_as_rows_came(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(
        events=24, span_seconds=0.003, ties=0.9, poison={"array-response": 3, "long-id": 3}, poison_placement="tied"
    )
    rig.run(recover="all")
    cast = len(shadows(rig.rows()))
    assert cast
    healed = rig.world.heal(rig.stream.account_id, ["long-id"])
    rig.run(recover="all")
    rows = rig.rows()
    assert len(events(rows)) == 18 + healed
    assert len(shadows(rows)) == cast
    rig.world.heal(rig.stream.account_id)
    rig.run()
    rows = rig.rows()
    assert Counter(row["event_raw"] for row in events(rows)) == rig.truth()
    # A readable row that filters cannot tell from refused ones counts as one of them; its shadow may stay.
    ids = {row["event_id"] for row in shadows(rows)}
    assert set(replaced(rows)) <= ids
    assert len(replaced(rows)) >= cast - 1


def test_a_shadow_comes_when_it_can_be_cast_and_is_no_latecomer(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 2})
    rig.run(recover="off")
    assert shadows(rig.rows()) == []
    rig.now += DAY
    rig.run(recover="all", retry=10)  # the last look at the former horizon, which casts none
    rig.now += 7 * DAY
    report = rig.run(recover="all", retry=10)
    assert (report.sinks[0].rows, report.sinks[0].late_rows) == (2, 0)
    assert_each_row_or_its_shadow(rig)


def test_a_sink_that_was_away_gets_its_shadows_replaced_too(rig_of: Callable[..., Any], shelf: Any) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 2})
    sinks = {"one": rig.parquet("one"), "other": rig.parquet("other")}
    rig.run(sinks, recover="all")
    rig.world.heal(rig.stream.account_id)
    rig.run({**sinks, "other": shelf(error=SinkError("out of order"))})
    rig.now += DAY
    rig.run(sinks)
    for name in sinks:
        assert_each_row_or_its_shadow(rig, name)
        assert len(replaced(rig.rows(name))) == 2


def test_a_sink_that_comes_later_needs_no_shadow_of_what_can_be_read(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 2})
    rig.run({"one": rig.parquet("one")}, recover="all")
    rig.world.heal(rig.stream.account_id)
    rig.run({"one": rig.parquet("one"), "late": rig.parquet("late")})
    assert_each_row_or_its_shadow(rig, "one")
    rig.assert_everything_once("late")
    assert replaced(rig.rows("late")) == []


@pytest.mark.parametrize("retry", [0, 10])
def test_a_gap_that_stays_keeps_what_is_known_of_it(rig_of: Callable[..., Any], retry: int) -> None:
    rig = rig_of(events=60, span_seconds=3600.0, poison={"array-response": 2})
    rig.run(recover="all")
    for _ in range(3):
        rig.now += 7 * DAY
        assert rig.run(retry=retry).sinks[0].rows == 0
    assert sum(len(gap.shadows) for gap in rig.checkpoint().gaps) == 2
    assert_each_row_or_its_shadow(rig)
