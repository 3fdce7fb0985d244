"""A sign-in from the command line, what runs make of it, and what people are told while it lasts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    world = World(SandboxOptions(events=200, accounts=2))
    with Sandbox(world, authorization=OAuth(world)) as sandbox:
        yield sandbox


@pytest.fixture
def browsed(tmp_path: Path) -> Path:
    """A file that is there as soon as a browser was opened."""
    return tmp_path / "browsed"


@pytest.fixture
def signed_in(
    sandbox: Sandbox,
    place_of: Any,
    browsed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[Any, Callable[..., Any]]]:
    """Sign in on a new machine; give it and a way to run commands on it in this process."""

    def make(*more: str) -> tuple[Any, Callable[..., Any]]:
        browser = f"{sys.executable} -c \"open('{browsed}', 'w')\" %s"
        place = place_of(sandbox, "--recover", "off", CLOUDFLARE_API_TOKEN="", BROWSER=browser)
        ended = place.sign_in(sandbox.mcp_url, *more)
        assert ended.code == 0, ended.err
        for name, value in place.environment().items():
            monkeypatch.setenv(name, value)
        return place, partial(place.here, capsys)

    return make


def warnings_in(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == "the sign-in ends soon"]


def test_check_says_who_we_are_what_a_page_costs_and_how_long_it_lasts(sandbox: Sandbox, signed_in: Any) -> None:
    place, command = signed_in("--grant-days", "30")
    found = {finding["what"]: finding["said"] for finding in json.loads(command(name="check").out)}
    assert f"account {place.account}" in found["source 'auditlogs'"]
    assert "by oauth, 1 upstream call a page" in found["source 'auditlogs'"]
    assert all(f"{account.id} ({account.name})" in found["accounts"] for account in sandbox.world.accounts)
    assert found["sign-in"].startswith(f"signed in at '{sandbox.mcp_url}' until ")
    assert found["sign-in"].endswith("30 days left")


@pytest.mark.parametrize("days", [7, 8])
def test_a_sign_in_that_ends_within_seven_days_is_warned_of_by_status_and_at_the_end_of_each_run(
    signed_in: Any, days: int
) -> None:
    place, command = signed_in("--grant-days", str(days))
    ran = command()
    assert ran.code == 0, ran.err
    at_end = warnings_in(ran.err)
    server = ("--server-url", place.sandbox.mcp_url)
    asked = place.cli("status", *server, "--log-format", "json")
    assert asked.code == 0
    assert "days left" in asked.out
    assert len(at_end) == len(warnings_in(asked.err)) == (days == 7)  # of which a moment has passed
    if at_end:
        assert at_end[0]["do"] == "cfaudit-export login"
        assert at_end[0]["days_left"] == pytest.approx(days, abs=0.1)
        assert json.loads(ran.err.splitlines()[-1])["message"] == "the sign-in ends soon"
    [stream] = json.loads(place.cli("status", *server, "--json").out)
    assert stream["grant_days_left"] == pytest.approx(days, abs=0.1)


def test_an_inner_token_that_died_is_cured_by_one_forced_refresh_in_the_middle_of_a_run(
    sandbox: Sandbox, signed_in: Any
) -> None:
    place, command = signed_in()
    oauth = sandbox.app.authorization
    oauth.dash.kill()
    assert command("-o", "sources.auditlogs.page_size=20").code == 0
    place.assert_everything_is_there_once()
    assert oauth.refreshes == 1


def test_a_sign_in_that_is_gone_ends_the_run_with_the_command_to_run_and_opens_no_browser(
    sandbox: Sandbox, signed_in: Any, browsed: Path
) -> None:
    _, command = signed_in()
    sandbox.app.authorization.memory.grants.clear()
    ended = command("--max-wait", "1s")
    assert ended.code == 77
    assert "run: cfaudit-export login" in ended.err
    assert not browsed.exists()
