"""`timeline`: sequences as text, as JSON and as a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

Cli = Callable[..., Any]


@pytest.fixture
def busy(exported: Any) -> tuple[str, datetime]:
    """The busiest actor, and when it did something."""
    actor = Counter(one.get("actor_email") for one in exported.events if one.get("actor_email")).most_common(1)[0][0]
    mine = [datetime.fromisoformat(one["time"]) for one in exported.events if one.get("actor_email") == actor]
    return actor, mine[len(mine) // 2]


def test_one_actor_has_all_its_events_and_nobody_elses(cli: Cli, exported: Any, busy: tuple[str, datetime]) -> None:
    result = cli("timeline", *exported.where, "--actor", busy[0], "--since", "20d", "--json")
    assert (result.code, result.err) == (0, "")
    sessions = json.loads(result.out)["sessions"]
    mine = [one for one in exported.since(exported.until - timedelta(days=20)) if one.get("actor_email") == busy[0]]
    assert sum(one["events"] for one in sessions) == len(mine)
    assert {one["actor"]["name"] for one in sessions} == {busy[0]}
    assert sum(step["count"] for one in sessions for step in one["steps"]) == len(mine)
    text = cli("timeline", *exported.where, "--actor", busy[0], "--since", "20d").out
    assert max(map(cell_len, text.splitlines())) <= 80
    assert text.count(f"{busy[0]} by ") == len(sessions)
    assert "complete: by the checkpoint" in text


def test_around_a_moment_it_shows_what_others_did(cli: Cli, exported: Any, busy: tuple[str, datetime]) -> None:
    around = ("--around", busy[1].isoformat(), "--window", "6d")
    found = json.loads(cli("timeline", *exported.where, "--actor", busy[0], *around, "--json").out)
    ends = busy[1] - timedelta(days=3), busy[1] + timedelta(days=3)
    there = [one for one in exported.events if ends[0] <= datetime.fromisoformat(one["time"]) < ends[1]]
    mine = sum(one.get("actor_email") == busy[0] for one in there)
    assert sum(one["events"] for one in found["sessions"]) == mine > 0
    assert sum(one["events"] for one in found["others"]) == len(there) - mine > 0
    text = cli("timeline", *exported.where, "--actor", busy[0], *around).out
    assert text.index("Others at the same time") > text.index(f"{busy[0]} by ")


def test_a_resource_is_found_by_its_product(cli: Cli, exported: Any) -> None:
    product = Counter(one["product"] for one in exported.events if one["product"]).most_common(1)[0][0]
    result = cli("timeline", *exported.where, "--resource", product.upper(), "--since", "20d", "--json")
    steps = [step for one in json.loads(result.out)["sessions"] for step in one["steps"]]
    assert {step["product"] for step in steps} == {product}


def test_as_a_page_its_name_is_the_answer(cli: Cli, exported: Any, busy: tuple[str, datetime], place: Path) -> None:
    result = cli("timeline", *exported.where, "--around", busy[1].isoformat(), "--html", "t.html")
    assert (result.code, result.out) == (0, "t.html\n")
    page = Path("t.html").read_text()
    assert page.count("<svg ") == 1
    assert page.endswith("</html>\n")


def test_what_cannot_be_meant_is_said(cli: Cli, exported: Any) -> None:
    for arguments, message in (
        (("--around", "2026-11-01", "--since", "7d"), "give the period either by --around and --window"),
        (("--window", "2h"), "--window needs --around"),
        (("--around", "lunsh"), "--around: expected a time such as 'yesterday lunch'"),
        (("--around", "lunsh"), "not 'lunsh'; did you mean 'lunch'?"),
        (("--around", "2026-11-01 noon", "--window", "0s"), "--window: "),
        (("--around", "yesterday", "--since", "7d"), "give the period either by --around and --window"),
        (("--around", "2026-11-01", "--window", "2"), "--window: expected a duration"),
    ):
        result = cli("timeline", *exported.where, *arguments)
        assert (result.code, result.out) == (2, "")
        assert message in result.line
