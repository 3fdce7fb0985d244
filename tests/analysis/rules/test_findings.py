"""What rules find in ordinary weeks, and in those in which a story is planted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.rules.model import Findings
from cfaudit_export.analysis.rules.shipped import SHIPPED
from cfaudit_export.core.model import Window
from cfaudit_export.settings import RuleSettings
from cfaudit_export.settings.rules import Mute
from planted.stories import HOME, STORIES, Tell, stranger, taken_over
from planted.world import END, EVIL, Story, judged, ordinary_rows

Judge = Callable[..., Findings]
Row = dict[str, Any]


def steps(found: Findings) -> list[str]:
    """Return the rules of findings of medium and high severity, as they are shown."""
    return [one.rule for episode in found.episodes() for one in episode.findings]


def is_within(wanted: tuple[str, ...], found: list[str]) -> bool:
    rest = iter(found)
    return all(one in rest for one in wanted)


def test_an_ordinary_week_has_hardly_anything_that_deserves_a_look(judge: Judge) -> None:
    found = judge()
    assert steps(found) == []
    assert found.of("low")
    assert not found.is_learning
    assert found.unjudged == ()


@pytest.mark.parametrize("tell", STORIES, ids=lambda tell: tell.__name__)
def test_a_planted_story_is_found_step_by_step(judge: Judge, story: Story, tell: Tell) -> None:
    wanted = tell(story)
    found = judge(story.rows)
    assert is_within(wanted, steps(found)), steps(found)
    assert len(steps(found)) <= len(wanted) + 1
    ids = {one for finding in found.of("high") for one in finding.event_ids}
    assert ids <= {row["event_id"] for row in story.rows}


def test_yesterday_lunch_names_the_six_steps_in_order_and_no_ordinary_change(judge: Judge, story: Story) -> None:
    wanted = taken_over(story)
    busy = Window(END - timedelta(hours=13, minutes=30), END - timedelta(hours=11))
    more = ordinary_rows(1, 300, seed=5)
    spread = busy.duration / len(more)
    for number, row in enumerate(more):
        row["event_time"] = busy.since + number * spread
    found = judge([*more, *story.rows], period=busy)
    [episode] = [one for one in found.episodes() if one.severity == "high"]
    assert [one.rule for one in episode.findings] == list(wanted)
    assert episode.actor.name == "jonas.ekberg@example.com"
    first = episode.findings[0]
    assert (first.severity, first.events, first.addresses) == ("high", 7, (EVIL,))
    assert "6 times 'LOGIN' within 60 minutes, then one that worked" in first.why
    assert "from a network that this actor never used before" in episode.findings[1].why
    mine = {row["event_id"] for row in story.rows}
    assert {one for finding in found.of("high") for one in finding.event_ids} <= mine


def test_the_same_changes_from_the_usual_place_are_low(judge: Judge, story: Story) -> None:
    for thing, said in (("api_tokens/tokens", "Create API token"), ("account_members/members", "Invite member")):
        story.add(thing, "create", said, actor_ip_address=HOME)
    assert steps(judge(story.rows)) == []


def test_an_address_that_is_known_speaks_for_nothing(judge: Judge, story: Story) -> None:
    story.add("api_tokens/tokens", "create", "Create API token")
    assert steps(judge(story.rows)) == ["token-made"]
    known = RuleSettings(known_addresses=("203.0.113.64/28", "2001:db8::/64"))
    found = judge(story.rows, known)
    assert steps(found) == []
    assert EVIL not in str([one for one in found.findings if one.rule == "first-address"])


def test_a_token_that_is_known_is_never_new(judge: Judge, story: Story) -> None:
    token = {"actor_context": "api_token", "actor_token_name": "terraform-2027", "actor_ip_address": HOME}
    story.add("account_members/members", "delete", "Remove account member", **token)
    assert steps(judge(story.rows)) == ["member-removed"]
    assert steps(judge(story.rows, RuleSettings(known_tokens=("terraform-2027",)))) == []


def test_settings_disable_rules_change_severities_and_mute(judge: Judge, story: Story) -> None:
    taken_over(story)
    rows = story.rows
    settings = RuleSettings(disable=("dnssec-off",), severity={"member-removed": "high", "waf-off": "low"})
    found = judge(rows, settings)
    assert "dnssec-off" not in steps(found)
    assert "waf-off" not in steps(found)
    assert {one.severity for one in found.findings if one.rule == "member-removed"} == {"high"}
    mute = Mute("token-made", "jonas.ekberg@example.com", END + timedelta(days=1))
    muted = judge(rows, RuleSettings(mute=(mute,)), now=END)
    assert "token-made" not in steps(muted)
    assert muted.muted > 0
    over = judge(rows, RuleSettings(mute=(mute,)), now=END + timedelta(days=2))
    assert "token-made" in steps(over)
    assert over.muted == 0


def test_without_history_it_learns_and_says_so_and_finds_what_is_alarming_by_itself(judge: Judge, story: Story) -> None:
    wanted = taken_over(story)
    stranger(story)
    found = judge(story.rows, alone=True)
    assert found.is_learning
    assert is_within(("failed-sign-ins", "dnssec-off", "dns-deletes"), steps(found))
    assert set(steps(found)) <= set(wanted)
    assert not [one for one in found.findings if one.rule in ("new-actor", "first-address")]


def test_what_the_source_did_not_give_is_counted_aloud(judge: Judge, story: Story) -> None:
    taken_over(story)
    gone = ("action_type", "action_result", "actor_context", "actor_ip_address", "resource_request", "actor_type")
    trimmed = [{**row, **dict.fromkeys(gone), "fidelity": "trimmed"} for row in story.rows]
    found = judge(trimmed)
    unjudged = {one.column: one for one in found.unjudged}
    for column in ("actor_ip_address", "action_result", "actor_context", "actor_type"):
        assert unjudged[column].events == len(trimmed)
    assert "first-address" in unjudged["actor_ip_address"].rules
    assert "failed-sign-ins" in unjudged["action_result"].rules
    assert unjudged["bodies"].events == 1
    assert unjudged["bodies"].rules == ("waf-off",)
    # Descriptions alone tell these.
    assert {"dnssec-off", "dns-deletes"} <= set(steps(found))


def test_only_what_was_asked_for_is_found_and_the_rest_still_is_history(judge: Judge, story: Story) -> None:
    taken_over(story)
    stranger(story)
    period = Window(END - timedelta(days=7), END)
    asked = Question(period, filters={"actor_email": "New@example.net"}, zone="UTC")
    found = judge(story.rows, period=period, question=asked)
    assert steps(found) == ["member-removed", "token-made"]
    assert {one.actor.name for one in found.findings} == {"new@example.net"}


def test_only_what_arrived_since_then_is_judged_and_counts_in_its_burst(judge: Judge, story: Story) -> None:
    taken_over(story)
    arrived = story.rows[-3]["ingested_at"]  # the last delete, the ruleset, the member
    found = judge(story.rows, arrived_since=arrived)
    assert is_within(("dns-deletes", "waf-off", "member-removed"), steps(found))
    assert not {"failed-sign-ins", "dnssec-off"} & set(steps(found))
    late = {**story.rows[0], "event_id": "late", "event_key": "late", "ingested_at": END + timedelta(days=1)}
    found = judge([*story.rows, late], arrived_since=END)
    assert steps(found) == ["failed-sign-ins"]


def test_an_account_that_two_streams_export_counts_once(
    ordinary: Any, story: Story, store_rows: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(3):
        story.add("dns_records/records", "delete", "Delete DNS record", resource_id=f"{number}")
    folder = shutil.copytree(ordinary.folder, tmp_path / "data", copy_function=os.link)
    store_rows(folder, story.rows, "one", cfaudit_stream="a" * 16)
    again = [{**row, "event_id": f"other-{row['event_id']}"} for row in story.rows]
    store_rows(folder, again, "two", cfaudit_stream="b" * 16)
    found = judged(folder, Window(END - timedelta(days=7), END))
    assert "dns-deletes" not in [one.rule for one in found.findings]


def test_hostile_texts_are_values_and_nothing_else(judge: Judge, story: Story) -> None:
    text = "Disable DNSSEC'; DROP TABLE seen; -- \u202e <script> Ignore previous instructions"
    story.add("dnssec/dnssec", "update", text, zone_name="a'b\".example", actor_email="o'neil\\@example.com")
    found = judge(story.rows)
    [one] = [one for one in found.findings if one.rule == "dnssec-off"]
    assert one.key == "a'b\".example"
    assert text in one.why


def test_every_rule_says_what_happened_and_what_to_do() -> None:
    assert len({one.id for one in SHIPPED}) == len(SHIPPED) >= 20
    for one in SHIPPED:
        assert one.title
        assert one.title[0].islower() or one.title.startswith(("DNSSEC", "API", "Cloudflare"))
        assert one.advice
        assert not one.advice.endswith(".")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 5))
def test_four_ordinary_weeks_of_2000_events_a_day_have_at_most_five_findings_each(
    judge: Judge, seed: int, story: Story
) -> None:
    rows = ordinary_rows(104, 2_000, seed)
    found = judge(rows, alone=True)
    assert len(found.of("medium", "high")) <= 5
    story.account = rows[0]["account_id"]
    wanted = taken_over(story)
    assert is_within(wanted, steps(judge([*rows, *story.rows], alone=True)))


def test_json_has_everything(judge: Judge, story: Story) -> None:
    from cfaudit_export.analysis.render.jsonable import tree

    taken_over(story)
    made = json.loads(json.dumps(tree(judge(story.rows))))
    assert made["findings"][0]["severity"] == "high"
    assert datetime.fromisoformat(made["findings"][0]["first"]) > datetime(2026, 11, 1, tzinfo=UTC)
    assert made["findings"][0]["event_ids"]
