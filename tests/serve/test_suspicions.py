"""`audit_findings`, asked as people ask: the attack of yesterday lunch, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.serve.worker import answer
from cfaudit_export.settings import Settings
from planted.files import write_rows
from planted.stories import taken_over
from planted.world import END, Story, ordinary_rows

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Story, tuple[str, ...]]:
    """Three weeks of an account, and a password that is guessed on its last day, at noon."""
    rows = ordinary_rows(21, 100)
    story = Story(rows[0]["account_id"], END - timedelta(hours=12), [])
    wanted = taken_over(story)
    return write_rows(tmp_path_factory.mktemp("attacked"), [*rows, *story.rows]), story, wanted


@pytest.fixture
def ask(attacked: tuple[Path, Story, tuple[str, ...]], tmp_path: Path) -> Iterator[Ask]:
    order = ServeOrder(Settings(state_dir=tmp_path), str(attacked[0]))
    with Archive(order, lambda: END + timedelta(hours=9), lambda: 0.0, lambda _: None) as archive:

        def of(tool: str, **arguments: Any) -> dict[str, Any]:
            reply = answer(archive, {"tool": tool, "arguments": arguments, "seconds": 60.0})
            assert reply["outcome"] == "ok", reply["text"]
            body: dict[str, Any] = json.loads(reply["text"])
            return body

        yield of


def test_yesterday_lunch_names_the_six_steps_in_order(ask: Ask, attacked: Any) -> None:
    _, story, wanted = attacked
    body = ask("audit_findings", when="yesterday lunch")
    assert body["coverage"]["understood_as"] == "Sunday 29 November 2026, 11:30 to 14:00 (UTC)"
    [episode] = [one for one in body["episodes"] if one["severity"] == "high"]
    assert episode["actor"] == "jonas.ekberg@example.com"
    mine = {row["event_id"] for row in story.rows}
    assert [one["rule"] for one in episode["findings"] if mine.issuperset(one["event_ids"])] == list(wanted)
    assert [
        one for one in episode["findings"] if one["severity"] == "high" and not mine.issuperset(one["event_ids"])
    ] == []
    assert all(one["why"] and one["advice"] for one in episode["findings"])


def test_findings_can_be_asked_by_severity_and_actor(ask: Ask) -> None:
    all_of_them = ask("audit_findings", when="yesterday")
    high = ask("audit_findings", when="yesterday", severity="high")
    assert high["findings"]["high"] == all_of_them["findings"]["high"] > 0
    assert high["findings"]["medium"] == high["findings"]["low"] == 0
    assert high["low"] == []
    other = ask("audit_findings", when="yesterday", actor="terraform@example.com")
    assert all(one["actor"] == "terraform@example.com" for one in other["episodes"])


def test_a_finding_leads_to_its_events(ask: Ask) -> None:
    body = ask("audit_findings", when="yesterday lunch", severity="high")
    event_id = body["episodes"][0]["findings"][0]["event_ids"][0]
    assert ask("audit_event", event_id=event_id)["event"]["event_id"] == event_id


def test_what_rules_could_not_judge_is_said(tmp_path: Path, by_hand: Callable[..., Ask]) -> None:
    ask = by_hand({"event_time": END - timedelta(hours=12), "fidelity": "trimmed"})
    body = ask("audit_findings", since="2026-11-29", before="2026-11-30")
    assert any("could not be judged" in one for one in body["not_judged"])
    assert body["learning"].startswith("less than 14 days")
