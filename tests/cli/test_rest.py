"""The source `rest`, over HTTP against the sandbox: it goes on where others stopped, and fails by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

EVENTS = 120


@pytest.fixture
def sandbox(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    options = SandboxOptions(events=EVENTS, accounts=3, span_seconds=7_200.0, poison={"api-context": 3}, twins=0.2)
    with Sandbox(World(options)) as running:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", running.world.tokens["user"])
        yield running


def options(sandbox: Sandbox, *more: str, source: str = "rest") -> tuple[str, ...]:
    urls = {"rest": sandbox.rest_url, "codemode": sandbox.codemode_url, "auditlogs": sandbox.mcp_url}
    servers = [word for name, url in urls.items() for word in ("-o", f"sources.{name}.server_url={url}")]
    where = ("--sink", "parquet", "-o", "sinks.parquet.path=out", "--state-dir", "state", "--settle-lag", "0s")
    return (*where, "--source", source, *servers, "--recover", "off", *more)


def keys(folder: Path, account: str) -> list[str]:
    table = ds.dataset(folder, format="parquet").to_table(columns=["account_id", "event_key", "fidelity"])
    return [one["event_key"] for one in table.to_pylist() if one["account_id"] == account]


def test_all_accounts_are_exported_whole(cli: Any, sandbox: Sandbox, place: Path) -> None:
    done = cli("run", *options(sandbox, "--account", "all", "--json"))
    assert done.code == 0, done.err
    assert [one["events"] for one in json.loads(done.out)] == [EVENTS] * 3
    for account in sandbox.world.accounts:
        found = keys(place / "out", account.id)
        assert len(found) == len(set(found)) == EVENTS


@pytest.mark.parametrize("before", ["auditlogs", "codemode"])
def test_it_goes_on_where_another_source_stopped_and_no_event_is_there_twice(
    cli: Any, sandbox: Sandbox, place: Path, before: str
) -> None:
    account = sandbox.world.accounts[1].id
    assert cli("run", *options(sandbox, "--account", account, source=before)).code in (0, 65)
    done = cli("run", *options(sandbox, "--account", account, "--rescan", "1d"))
    assert done.code == 0, done.err
    found = keys(place / "out", account)
    assert len(found) == len(set(found)) == EVENTS


def test_it_fills_the_gaps_of_the_audit_logs_server(cli: Any, sandbox: Sandbox, place: Path) -> None:
    account = sandbox.world.accounts[0].id
    more = ("--account", account, "--fill-gaps-from", "rest")
    assert cli("run", *options(sandbox, *more, source="auditlogs")).code == 0
    found = keys(place / "out", account)
    assert len(found) == len(set(found)) == EVENTS


def test_a_token_without_the_permission_is_told_which_one_it_needs(
    cli: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["no_permission"])
    done = cli("run", *options(sandbox, "--account", sandbox.world.accounts[0].id))
    assert (done.code, "Account Settings: Read" in done.err) == (77, True)


def test_an_api_that_fails_for_a_moment_is_asked_again(cli: Any, sandbox: Sandbox, place: Path) -> None:
    account = sandbox.world.accounts[2].id
    sandbox.upstream.fail_next(503, times=2)
    sandbox.upstream.fail_next("html")
    done = cli("run", *options(sandbox, "--account", account))
    assert done.code == 0, done.err
    assert len(set(keys(place / "out", account))) == EVENTS


def test_large_events_are_asked_for_in_smaller_pages(cli: Any, sandbox: Sandbox, place: Path) -> None:
    account = sandbox.world.accounts[0].id
    done = cli("run", *options(sandbox, "--account", account, "-o", "sources.rest.max_reply_bytes=20000"))
    assert done.code == 0, done.err
    assert len(set(keys(place / "out", account))) == EVENTS


def test_the_token_goes_to_no_other_host_than_the_one_that_is_named(cli: Any, sandbox: Sandbox) -> None:
    refused = cli("run", *options(sandbox, "-o", "sources.rest.server_url=http://api.example/client/v4"))
    assert (refused.code, "--insecure-http" in refused.err) == (78, True)
