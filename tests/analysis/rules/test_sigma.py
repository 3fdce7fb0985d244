"""The Sigma files of `deploy/sigma` and our rules pick the same events: two writings, two engines.

pySigma makes SQL for SQLite of them, which SQLite answers over the same events.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection

from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.rules import context, hits
from cfaudit_export.analysis.rules.scan import RuleQuestion, scan
from cfaudit_export.analysis.rules.shipped import SHIPPED
from cfaudit_export.core.model import Window
from planted.stories import STORIES
from planted.world import END, Story, opened, ordinary_rows

FOLDER = Path(__file__).parents[3] / "deploy" / "sigma"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}
RULES = {one.id: one for one in SHIPPED}
# Its description decides together with the thing, in a way that Sigma has no words for.
WITHOUT = {"second-factor-off"}
COLUMNS = {
    "action.type": "action_type",
    "action.result": "action_result",
    "action.description": "action_description",
    "actor.context": "actor_context",
    "actor.type": "actor_type",
    "actor.email": "actor_email",
    "actor.ip_address": "actor_ip_address",
    "resource.product": "resource_product",
    "resource.type": "resource_type",
    "resource.request": "resource_request",
    "resource.response": "resource_response",
}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """An ordinary week, and every story in it, a day apart from each other."""
    made = ordinary_rows(7, 400)
    for number, tell in enumerate(STORIES):
        story = Story(made[0]["account_id"], END - timedelta(days=7) + timedelta(hours=13 * number, seconds=number), [])
        tell(story)
        made += story.rows
    return made


@pytest.fixture(scope="module")
def ours(
    rows: list[dict[str, Any]], store_rows: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """What our rules match, before anything is weighed."""
    folder = store_rows(tmp_path_factory.mktemp("sigma"), rows)
    period = Window(END - timedelta(days=7), END)
    asked = RuleQuestion(Question(period), None, SHIPPED, (), hits.lacking(SHIPPED))
    with opened(folder, period) as data:
        scan(data, asked)
        context.remember(data, ())
        hits.find_hits(data, asked, is_learning=True)
        found = data.ask("SELECT rule, list(event_id) AS ids FROM hits WHERE why IS NULL GROUP BY rule")
    return {SHIPPED[one["rule"]].id: set(one["ids"]) for one in found}


@pytest.fixture(scope="module")
def sqlite(rows: list[dict[str, Any]]) -> sqlite3.Connection:
    """The same events in SQLite, under the names of Cloudflare's record."""
    connection = sqlite3.connect(":memory:")
    connection.create_function("REGEXP", 2, lambda pattern, text: bool(text is not None and re.search(pattern, text)))
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    connection.execute(f"CREATE TABLE logs (event_id, timestamp, {names})")
    marks = ", ".join("?" * (len(COLUMNS) + 2))
    connection.executemany(
        f"INSERT INTO logs VALUES ({marks})",  # noqa: S608  # marks alone
        [
            (row["event_id"], row["event_time"].isoformat(), *(row.get(one) or "" for one in COLUMNS.values()))
            for row in rows
        ],
    )
    return connection


def test_every_match_and_burst_has_a_file_and_no_other() -> None:
    assert FILES.keys() == {one.id for one in SHIPPED if one.kind in ("match", "burst")} - WITHOUT


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_sigma_and_says_what_its_rule_says(name: str) -> None:
    rules = SigmaCollection.from_yaml(FILES[name].read_text()).rules
    assert not [error for one in rules for error in one.errors]
    assert str(rules[-1].level).lower().rpartition(".")[2] == RULES[name].severity
    assert str(rules[-1].title).lower() == RULES[name].title.lower()


@pytest.mark.parametrize("name", [name for name in FILES if RULES[name].kind == "match"])
def test_both_engines_pick_the_same_events(name: str, sqlite: sqlite3.Connection, ours: dict[str, set[str]]) -> None:
    [query] = sqliteBackend().convert(SigmaCollection.from_yaml(FILES[name].read_text()))
    query = query.replace("<TABLE_NAME>", "logs").replace("SELECT * FROM", "SELECT event_id FROM", 1)
    assert {row[0] for row in sqlite.execute(query)} == ours.get(name, set()) != set()


@pytest.mark.parametrize("name", [name for name in FILES if RULES[name].kind == "burst"])
def test_the_events_that_a_burst_counts_are_the_same(
    name: str, sqlite: sqlite3.Connection, ours: dict[str, set[str]], rows: list[dict[str, Any]]
) -> None:
    """SQLite's writing of the correlation counts by actor; what it counts must hold all that we found."""
    first, _, _ = FILES[name].read_text().partition("\n---\n")
    [query] = sqliteBackend().convert(SigmaCollection.from_yaml(first))
    query = query.replace("<TABLE_NAME>", "logs").replace("SELECT * FROM", "SELECT event_id FROM", 1)
    counted = {row[0] for row in sqlite.execute(query)}
    assert ours[name] <= counted
    by_id = {row["event_id"]: row for row in rows}
    for one in ours[name]:
        same = [
            other
            for other in counted
            if by_id[other]["actor_email"] == by_id[one]["actor_email"]
            and abs(by_id[other]["event_time"] - by_id[one]["event_time"]) <= timedelta(hours=1)
        ]
        assert len(same) >= RULES[name].count
