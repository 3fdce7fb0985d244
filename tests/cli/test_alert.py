"""`alert` on the command line, and `run --alert`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from planted.files import write_rows
from planted.world import Story

Cli = Callable[..., Any]


@pytest.fixture
def data(place: Path) -> tuple[str, ...]:
    """Files with a deleted zone, two hours ago; the options that name them."""
    story = Story("0f3c1e5a7b9d2468ace013579bdf2468", datetime.now(UTC) - timedelta(hours=2), [])
    story.add("zones/zones", "delete", "Delete zone", zone_name="shop-1.example")
    write_rows(place / "data", story.rows)
    return "--data", "data", "--state-dir", "state"


def test_without_a_channel_it_prints_each_finding_once(cli: Cli, data: tuple[str, ...]) -> None:
    first = cli("alert", *data)
    assert first.code == 0
    assert first.out.startswith("[high] zone deleted or moved: shop-1.example\nwhen: ")
    assert "look closer: cfaudit-export timeline --data data" in first.out
    again = cli("alert", *data)
    assert (again.code, again.out) == (0, "")
    assert "nothing new deserves a look" in again.err


def test_a_pipeline_fails_on_what_is_severe_and_new(cli: Cli, data: tuple[str, ...]) -> None:
    done = cli("alert", *data, "--fail-on", "high", "--json")
    assert done.code == 1
    made = json.loads(done.out)
    assert [one["rule"] for one in made["found"]] == ["zone-removed"]
    assert made["delivered"] == {"answer": 1}
    assert cli("alert", *data, "--fail-on", "high").code == 0
    wrong = cli("alert", *data, "--fail-on", "hihg")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--fail-on: expected one of low, medium, high, not 'hihg'" in wrong.line


def test_the_url_of_a_webhook_is_in_no_message(cli: Cli, data: tuple[str, ...]) -> None:
    url = "http://127.0.0.1:9/hook/5ecret0123456789abcdef"
    done = cli("alert", *data, "-vv", "-o", f"alert.webhook_url={url}")
    assert done.code == 69
    assert "webhook at '127.0.0.1' cannot be reached" in done.err
    assert "5ecret" not in done.err + done.out
    plain = cli("alert", *data, "-o", "alert.webhook_url=http://hooks.example/5ecret0123456789abcdef")
    assert plain.code == 78
    assert "5ecret" not in plain.err


def test_a_run_tells_what_it_brought(cli: Cli, target: tuple[str, ...]) -> None:
    done = cli("run", *target, "--alert", "-o", "alert.severity=low", "--json")
    assert done.code == 0
    assert len(json.loads(done.out)) == 1
    state = list(Path("state/alerts").glob("*.json"))
    assert len(state) == 1
    assert json.loads(state[0].read_text())["channels"]["answer"]["since"]
