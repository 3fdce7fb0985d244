"""A server over HTTP: several callers, who may ask, and who may not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

DAY = {"since": "2026-11-18", "before": "2026-11-19"}
TOKEN = "correct-horse-battery-staple"
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def web(served: Any, serving: Any) -> Iterator[Any]:
    with serving(served, "--compat") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(served: Any, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    file = tmp_path_factory.mktemp("token") / "token.txt"
    file.write_text(TOKEN + "\n")
    with serving(served, "--token-file", str(file), "--allow-host", "audit.example.com") as running:
        yield running


def post(url: str, **headers: str) -> httpx2.Response:
    return httpx2.post(url, json=LIST, headers={**ACCEPT, **headers}, timeout=60, trust_env=False)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_both_eras_are_answered(web: Any, mode: str) -> None:
    async def talk() -> None:
        async with Client(streamable_http_client(web.url), mode=mode) as server:
            answer = await server.call_tool("audit_report", DAY)
            assert answer.structured_content["coverage"]["state"] == "complete"

    anyio.run(talk)


def test_eight_callers_at_once_each_get_their_own_answer(web: Any) -> None:
    found: dict[int, list[int]] = {}

    async def caller(number: int) -> None:
        async with Client(streamable_http_client(web.url), mode="auto" if number % 2 else "legacy") as server:
            for turn in range(3):
                answer = await server.call_tool("audit_sql", {"query": f"SELECT {number}, {turn}"})
                found.setdefault(number, []).append(answer.structured_content["rows"][0])

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(caller, number)

    anyio.run(all_of_them)
    assert found == {number: [[number, turn] for turn in range(3)] for number in range(8)}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "192.0.2.7:80"}, 200),
        ({"Host": "evil.example.com"}, 421),
        ({"Host": "127.0.0.1.evil.example.com"}, 421),
        ({"Host": "localhost@evil.example.com"}, 421),
        ({"Host": "["}, 421),
        ({"Origin": "http://localhost:5173"}, 200),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "http://192.0.2.7"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_names_that_are_not_its_own_and_other_pages_are_refused(web: Any, headers: Any, status: int) -> None:
    assert post(web.url, **headers).status_code == status


def test_a_body_that_is_too_large_is_refused(web: Any) -> None:
    body = {**LIST, "params": {"x": "y" * 2_000_000}}
    assert httpx2.post(web.url, json=body, headers=ACCEPT, timeout=60, trust_env=False).status_code == 413


def test_a_token_of_a_file_opens_and_nothing_else_does(guarded: Any) -> None:
    assert post(guarded.url, Authorization=f"Bearer {TOKEN}").status_code == 200
    for header in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
    ):
        refused = post(guarded.url, **header)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "tools" not in refused.text
    assert post(guarded.url, Authorization=f"Bearer {TOKEN}", Host="audit.example.com").status_code == 200
    assert post(guarded.url, Authorization=f"Bearer {TOKEN}", Host="other.example.com").status_code == 421


def test_the_token_is_in_no_log(guarded: Any) -> None:
    post(guarded.url, Authorization=f"Bearer {TOKEN}")
    post(guarded.url, Authorization="Bearer almost-the-right-token")
    said = "".join(guarded.said)
    assert TOKEN not in said
    assert "almost-the-right-token" not in said


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--http", "0.0.0.0:0"), 78, "can be reached by others"),
        (("--http", "[::]:0"), 78, "can be reached by others"),
        (("--http", "0.0.0.0:0", "--token-file", "short"), 78, "must hold one token of 20 characters or more"),
        (("--http", "0.0.0.0:0", "--token-file", "missing"), 78, "cannot be read"),
        (("--http", "127.0.0.1:0", "--oauth-issuer", "http://login.example.com"), 78, "expected an https URL"),
        (("--http", "127.0.0.1:0", "--oauth-audience", "x"), 78, "need --oauth-issuer"),
        (("--http", "127.0.0.1"), 2, "expected HOST:PORT"),
        (("--http", "example.com:80"), 2, "expected an address"),
        (("--http", "127.0.0.1:0", "--stdio"), 2, "choose either"),
        (("--token-file", "short"), 2, "are for --http"),
        (("--account", "x"), 2, "expected account ids"),
    ],
)
def test_what_would_let_others_in_is_refused(served: Any, cli: Any, options: Any, code: int, said: str) -> None:
    Path("short").write_text("secret")
    done = cli("mcp", served.folder, *options)
    assert done[0] == code
    assert said in done[1]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process, in an empty folder."""
    from cfaudit_export.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        code = main([str(one) for one in arguments])
        return code, capsys.readouterr().err

    return run


def test_without_duckdb_it_does_not_start(served: Any, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, said = cli("mcp", served.folder)
    assert code == 78
    assert "DuckDB is not installed" in said


def test_a_signal_to_stop_ends_it_with_0(served: Any, serving: Any) -> None:
    with serving(served) as running:
        assert post(running.url).status_code == 200
        running.process.terminate()
        assert running.process.wait(60) == 0


def test_an_address_that_is_taken_is_named(served: Any, web: Any) -> None:
    port = re.search(r":(\d+)/", web.url)
    assert port
    command = [sys.executable, "-m", "cfaudit_export", "mcp", str(served.folder), "--http", f"127.0.0.1:{port[1]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1" in done.stderr


def test_the_header_of_the_account_counts_as_with_the_server_it_stands_in_for(web: Any, served: Any) -> None:
    async def talk() -> None:
        headers = {"cf-account-id": "f" * 32}
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False) as http,
            Client(streamable_http_client(web.url, http_client=http)) as server,
        ):
            answer = await server.call_tool("auditlogs_by_account_id", {**DAY, "account_id": served.account})
            assert answer.is_error
            assert json.loads(answer.content[0].text)["available_accounts"] == [{"id": served.account, "name": ""}]

    anyio.run(talk)
