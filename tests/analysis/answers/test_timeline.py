"""Sessions and folded steps, against rules written down as plain Python."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.answers import timeline
from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.timeline import Focus, Timeline, make_timeline
from cfaudit_export.analysis.render import phrases
from cfaudit_export.core.model import Window
from cfaudit_export.errors import UsageError

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
PERIOD = Window(NOON, NOON + timedelta(hours=6))


def event(
    minutes: float, actor: str | None = "ada@example.com", what: str | None = "Update DNS record", **more: Any
) -> dict[str, Any]:
    moment = NOON + timedelta(minutes=minutes)
    return {"event_time": moment, "actor_email": actor, "action_description": what, "actor_context": "dash"} | more


@pytest.fixture
def make(tmp_path: Path, store_rows: Callable[..., Path], opened: Callable[..., Any]) -> Callable[..., Timeline]:
    def of(*events: dict[str, Any], focus: Focus | None = None, period: Window = PERIOD, **asked: Any) -> Timeline:
        data = opened(store_rows(tmp_path, events))
        question = Question(period, **asked)
        return make_timeline(data, question, focus or Focus(), coverage=Coverage(period), now=NOON)

    return of


def test_half_an_hour_without_an_event_ends_a_session(make: Any) -> None:
    found = make(event(0), event(30), event(60.1), event(61)).sessions
    assert [(one.first, one.last, one.events) for one in found] == [
        (NOON, NOON + timedelta(minutes=30), 2),
        (NOON + timedelta(minutes=60.1), NOON + timedelta(minutes=61), 2),
    ]


def test_another_actor_or_credential_is_another_session(make: Any) -> None:
    found = make(
        event(0),
        event(1, actor="bob@example.com"),
        event(2, actor_context="api_token", actor_token_name="ci"),
        event(3),
        event(4, actor_context=None),
    ).sessions
    assert [(one.actor.shown, one.credential.shown, one.events) for one in found] == [
        ("ada@example.com", "dashboard", 2),
        ("bob@example.com", "dashboard", 1),
        ("ada@example.com", "API token ci", 1),
        ("ada@example.com", "unknown", 1),
    ]


def test_repeats_are_folded_and_keep_their_order(make: Any) -> None:
    updates = [event(at / 10, zone_name=f"zone{at % 5}.example", action_type="update") for at in range(12)]
    failed = event(5, action_result="failure")
    [session] = make(*updates, failed, event(6, action_type="update")).sessions
    assert [(step.count, step.result) for step in session.steps] == [(12, "unknown"), (1, "failure"), (1, "unknown")]
    first = session.steps[0]
    assert (first.targets, first.more_targets) == (("zone0.example", "zone1.example", "zone2.example"), 2)
    assert (first.first, first.last) == (NOON, NOON + timedelta(minutes=1.1))
    assert phrases.step(first) == "12 x Update DNS record: zone0.example, zone1.example, zone2.example and 2 more"
    assert session.failures == 1


def test_a_step_without_description_is_named_by_what_is_known(make: Any) -> None:
    [session] = make(
        event(0, what=None, action_type="create", resource_product="r2", resource_type="buckets"),
        event(1, what=None),
    ).sessions
    assert [phrases.step(step) for step in session.steps] == ["create r2/buckets", "unknown unknown"]


def test_what_goes_beyond_the_period_is_said_and_not_counted(make: Any) -> None:
    end = PERIOD.duration / timedelta(minutes=1)
    before, inside, after = event(-20), [event(5), event(end - 5)], event(end + 10)
    first, last = make(before, *inside, after, event(-50)).sessions
    assert (first.events, first.begins_before, first.goes_on) == (1, True, False)
    assert (last.events, last.begins_before, last.goes_on) == (1, False, True)
    assert "began before" in phrases.session_facts(first, Question(PERIOD))
    assert make(before, after).sessions == ()


def test_an_actor_is_meant_by_any_of_its_names(make: Any) -> None:
    events = [
        event(0),
        event(1, actor="bob@example.com", actor_id="b0b"),
        event(2, actor=None, actor_token_name="Terraform", actor_context="api_token"),
    ]
    for name, actor in (
        ("ADA@example.com", "ada@example.com"),
        ("b0b", "bob@example.com"),
        ("terraform", "token Terraform"),
    ):
        found = make(*events, focus=Focus(actor=name))
        assert [one.actor.shown for one in found.sessions] == [actor]
        assert found.others == ()


def test_a_resource_is_meant_by_any_of_its_names(make: Any) -> None:
    events = [event(0, zone_name="a.example"), event(1, resource_id="17"), event(2, resource_product="r2"), event(3)]
    for name, minute in (("A.example", 0), ("17", 1), ("r2", 2)):
        [session] = make(*events, focus=Focus(resource=name)).sessions
        assert (session.first, session.events) == (NOON + timedelta(minutes=minute), 1)


def test_what_others_did_is_shown_beside_a_moment(make: Any) -> None:
    events = [event(0), event(1, actor="bob@example.com"), event(2, actor=None)]
    found = make(*events, focus=Focus(actor="ada@example.com", around=NOON))
    assert [one.actor.shown for one in found.sessions] == ["ada@example.com"]
    assert [one.actor.shown for one in found.others] == ["bob@example.com", "unknown"]
    everybody = make(*events, focus=Focus(around=NOON))
    assert (len(everybody.sessions), everybody.others) == (3, ())


def test_filters_leave_out_the_rest_everywhere(make: Any) -> None:
    events = [event(0), event(1, actor="bob@example.com", actor_context="api_key")]
    found = make(*events, focus=Focus(actor="ada@example.com", around=NOON), filters={"actor_context": "dash"})
    assert (len(found.sessions), found.others) == (1, ())


def test_too_much_is_refused_rather_than_cut(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST_EVENTS", 3)
    assert len(make(*map(event, range(3))).sessions) == 1
    with pytest.raises(UsageError, match="more than 3 events"):
        make(*map(event, range(4)))


def test_sessions_hold_every_event_of_a_real_export_once(
    exported: Any, recovered_rows: list[dict[str, Any]], opened: Callable[..., Any]
) -> None:
    period = Window(NOON - timedelta(days=3), NOON)
    found = make_timeline(opened(exported.folder), Question(period), Focus(), coverage=Coverage(period), now=NOON)
    mine = [row for row in recovered_rows if period.since <= row["event_time"] < period.before]
    assert sum(one.events for one in found.sessions) == sum(step.count for one in found.sessions for step in one.steps)
    assert sum(one.events for one in found.sessions) == len(mine) > 100
    assert sum(one.failures for one in found.sessions) == sum(row["action_result"] == "failure" for row in mine)
    by_actor: dict[Any, list[datetime]] = {}
    for row in sorted(mine, key=lambda one: one["event_time"]):
        name = row["actor_email"] or row["actor_token_name"] or row["actor_type"]
        key = (name, row["actor_context"], row["actor_token_name"])
        by_actor.setdefault(key, []).append(row["event_time"])
    pauses = sum(
        later - earlier > timedelta(minutes=30) for times in by_actor.values() for earlier, later in pairwise(times)
    )
    assert len(found.sessions) == len(by_actor) + pauses
