"""Calls are spent on what matters most, by the questions that the server is asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

HOUR = timedelta(hours=1)


def test_questions_are_about_new_rows_then_late_ones_then_columns_that_lack_then_gaps(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(events=30, span_seconds=3600.0)
    start = rig.now
    record = next(one for one in rig.world.records(rig.stream.account_id) if "actor" in one)
    odd = {**record, "id": "odd", "actor": {**record["actor"], "context": "api"}}
    rig.world.add(rig.stream.account_id, [odd])
    rig.run(rescan=timedelta(0))  # leaves a gap
    rig.now = start + 8 * HOUR
    rig.grow(20, start, rig.now)
    poor = {"budget_calls": 12}
    assert rig.run(recover="auto", config=poor, rescan=timedelta(0), retry=0).trimmed == 20
    rig.now = start + 16 * HOUR
    rig.run(retry=0)
    rig.grow(3, start + 13 * HOUR, start + 14 * HOUR)  # late
    rig.grow(20, rig.now, rig.now + HOUR)
    rig.now += HOUR
    asked: list[tuple[int, bool]] = []
    answer = rig.world.query

    def note(account_id: str, query: Any) -> Any:
        asked.append((query.since_ns, bool(query.filters)))
        return answer(account_id, query)

    rig.world.query = note
    assert rig.run(recover="auto").completed == 20
    assert [one for one, _ in groupby(_named(one, start) for one in asked)] == [
        "new rows",
        "columns of new rows",
        "late rows",
        "columns of late rows",
        "trimmed rows",
        "columns of trimmed rows",
        "gap",
    ]


def _named(asked: tuple[int, bool], start: datetime) -> str:
    since_ns, has_filters = asked
    hours = round((since_ns / 1e9 - start.timestamp()) / 3600, 3)  # questions begin a millisecond early
    if hours < 0:
        return "gap"
    rows = "new" if hours >= 16 else "late" if hours >= 9.5 else "trimmed"
    return f"columns of {rows} rows" if has_filters else f"{rows} rows"
