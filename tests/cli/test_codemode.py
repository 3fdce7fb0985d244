"""The source `codemode` from the command line: what is planned, checked, exported, and filled from it."""

from __future__ import annotations

import json
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit


@pytest.fixture
def odd(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    world = World(SandboxOptions(events=200, span_seconds=86_400.0, poison={"api-context": 3}, ties=0.5))
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["account"])
    with Sandbox(world) as sandbox:
        sandbox.app.authorization = OAuth(world)
        yield sandbox


def into_parquet(sandbox: Sandbox) -> tuple[str, ...]:
    account = sandbox.world.accounts[0].id
    return ("--account", account, "--sink", "parquet", "-o", "sinks.parquet.path=out", "--state-dir", "state")


def test_it_is_planned_checked_and_exported_like_the_other(cli: Any, odd: Sandbox, place: Path) -> None:
    target = ("--source", "codemode", "--server-url", odd.codemode_url, *into_parquet(odd))
    [planned] = json.loads(cli("plan", *target, "--json").out)
    assert planned["estimate"]["calls_per_page"] == 1
    assert planned["stream"]["source"] == "codemode"
    checked = cli("check", *target)
    assert checked.code == 0, checked.out
    assert "ok      source 'codemode': account" in checked.out
    assert "1 upstream call a page, cloudflare-api" in checked.out
    assert "ok      reading: events can be read" in checked.out
    done = cli("run", *target, "--settle-lag", "0s")
    assert done.code == 0, done.err
    assert set(pq.read_table(place / "out", partitioning=None)["fidelity"].to_pylist()) == {"full"}
    assert "codemode" in cli("status", "--state-dir", "state").out


def test_gaps_are_filled_from_it_by_a_run_and_by_a_retry(cli: Any, odd: Sandbox, place: Path) -> None:
    target = ("--server-url", odd.mcp_url, *into_parquet(odd), "--recover", "off")
    fill = ("--fill-gaps-from", "codemode", "-o", f"sources.codemode.server_url={odd.codemode_url}")
    assert cli("run", *target, "--settle-lag", "0s").code == 65
    assert len(json.loads(cli("gaps", "--state-dir", "state", "--json").out)) == 3
    retried = cli("gaps", "--retry", *target, *fill)
    assert retried.code == 0, retried.err
    rows = pq.read_table(place / "out", partitioning=None)
    events = rows.filter([kind != "shadow" for kind in rows["fidelity"].to_pylist()])
    assert len(set(events["event_key"].to_pylist())) == events.num_rows == 200
    assert cli("run", *target, *fill, "--settle-lag", "0s").code == 0


def test_a_check_looks_at_the_second_source_too(cli: Any, odd: Sandbox) -> None:
    target = ("--server-url", odd.mcp_url, *into_parquet(odd), "--fill-gaps-from", "codemode")
    good = cli("check", *target, "-o", f"sources.codemode.server_url={odd.codemode_url}")
    assert good.code == 0, good.out
    assert "ok      source 'codemode': account" in good.out
    away = ("-o", "sources.codemode.server_url=http://127.0.0.1:9/mcp", "-o", "sources.codemode.retry_seconds=0.5")
    bad = cli("check", *target, *away)
    assert bad.code == 75
    assert "failed  source 'codemode': '127.0.0.1:9' cannot be reached" in bad.out


def test_a_second_source_must_be_one_that_is_known(cli: Any, odd: Sandbox) -> None:
    done = cli("run", "--server-url", odd.mcp_url, *into_parquet(odd), "--fill-gaps-from", "codmode")
    assert done.code == 78
    assert "codmode" in done.line


def test_a_sign_in_asks_for_no_more_than_reading_needs(
    cli: Any, odd: Sandbox, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: (asked.append(url), visit(url)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    here = ("--source", "codemode", "--server-url", odd.codemode_url, "--state-dir", "state", "--keyring", "off")
    done = cli("login", *here)
    assert done.code == 0, done.err
    [url] = asked
    [scope] = parse_qs(urlsplit(url).query)["scope"]
    assert scope.split() == ["user:read", "account:read", "account-settings.read", "offline_access"]
    done = cli(
        "run", "--source", "codemode", "--server-url", odd.codemode_url, *into_parquet(odd), "--settle-lag", "0s"
    )
    assert done.code == 0, done.err
    assert pq.read_table(place / "out", partitioning=None).num_rows == 200
