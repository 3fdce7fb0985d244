"""A server over stdio, in a process of its own, as a client starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

from cfaudit_export.serve.prompts import PROMPTS

ERAS = ["auto", "legacy"]
DAY = {"since": "2026-11-18", "before": "2026-11-19"}
ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range * b.range = -1"
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


@asynccontextmanager
async def client(served: Any, mode: str, log: Path, *options: str) -> AsyncIterator[Client]:
    program, *arguments = served.command
    told = StdioServerParameters(command=program, args=[*arguments, *options], env=dict(os.environ))
    with log.open("w") as errlog:
        async with Client(stdio_client(told, errlog=errlog), mode=mode) as opened:
            yield opened


@contextmanager
def bare(served: Any, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a server without the client of the SDK."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*served.command, *options], text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def called(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    if not found.exists():
        pytest.skip("NOT TESTED: this system does not tell the children of a process")
    while found.exists():
        tasks = [path / "children" for path in Path(f"/proc/{pid}/task").iterdir()]
        # A thread that ends meanwhile leaves its children to another, which may have been read before: read again.
        with suppress(FileNotFoundError, ProcessLookupError):
            return sorted({int(one) for task in tasks for one in task.read_text().split()})
    return []


def begun(server: subprocess.Popen[str]) -> int:
    """Let a server answer once, and return its worker."""
    say(server, HELLO)
    hear(server)
    say(server, called(2, "audit_coverage"))
    hear(server)
    [worker] = children(server.pid)
    return worker


@pytest.mark.parametrize("mode", ERAS)
def test_the_client_of_the_sdk_finds_and_asks_all_there_is(served: Any, tmp_path: Path, mode: str) -> None:
    async def talk() -> None:
        async with client(served, mode, tmp_path / "log") as server:
            tools = {one.name: one for one in (await server.list_tools()).tools}
            assert "auditlogs_by_account_id" not in tools
            assert all(one.annotations.read_only_hint and not one.annotations.open_world_hint for one in tools.values())
            answer = await server.call_tool("audit_events", {**DAY, "limit": 2})
            assert not answer.is_error
            assert answer.structured_content == json.loads(answer.content[0].text)
            assert len(answer.structured_content["events"]) == 2
            assert (await server.call_tool("audit_events", {"sinc": "1h"})).is_error
            with pytest.raises(MCPError, match="did you mean 'audit_event"):
                await server.call_tool("audit_evnts", {})
            assert {one.name for one in (await server.list_prompts()).prompts} == PROMPTS.keys()
            prompt = await server.get_prompt("suspicious_changes", {"when": "yesterday lunch"})
            assert '"yesterday lunch"' in prompt.messages[0].content.text
            [resource] = (await server.list_resources()).resources
            columns = json.loads((await server.read_resource(resource.uri)).contents[0].text)["columns"]
            assert columns[0]["name"] == "event_id"

    anyio.run(talk)


def test_each_call_is_one_line_of_the_log_without_what_it_was_about(served: Any, tmp_path: Path) -> None:
    async def talk() -> None:
        async with client(served, "auto", tmp_path / "log") as server:
            await server.call_tool("audit_events", {**DAY, "where": {"actor_email": "terraform@example.com"}})
            await server.call_tool("audit_sql", {"query": "SELECT 'abracadabra'"})
            await server.call_tool("audit_sql", {"query": "abracadabra"})

    anyio.run(talk)
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    calls = [one for one in lines if one["message"] == "call"]
    assert [(one["tool"], one["outcome"]) for one in calls] == [
        ("audit_events", "ok"),
        ("audit_sql", "ok"),
        ("audit_sql", "refused"),
    ]
    assert calls[0]["rows"] > 0
    assert calls[0]["client"].startswith("mcp ")
    assert "abracadabra" not in text
    assert "terraform" not in text


def test_what_is_switched_off_is_not_there(served: Any, tmp_path: Path) -> None:
    async def talk() -> None:
        options = ("--no-sql", "--compat", "--account", served.account)
        async with client(served, "auto", tmp_path / "log", *options) as server:
            tools = {one.name: one for one in (await server.list_tools()).tools}
            assert "audit_sql" not in tools
            assert "auditlogs_by_account_id" in tools
            assert all("account" not in one.input_schema["properties"] for one in tools.values())
            with pytest.raises(MCPError, match="not found"):
                await server.call_tool("audit_sql", {"query": "SELECT 1"})

    anyio.run(talk)


def test_the_first_answers_come_before_any_data_is_opened(served: Any) -> None:
    with bare(served) as server:
        say(server, HELLO)
        assert hear(server)["result"]["serverInfo"]["name"] == "cfaudit-export"
        say(server, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        say(server, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        assert len(hear(server)["result"]["tools"]) >= 6
        assert children(server.pid) == []
        say(server, called(3, "audit_coverage"))
        assert not hear(server)["result"]["isError"]
        assert len(children(server.pid)) == 1


def test_lines_that_are_no_messages_do_not_end_it(served: Any) -> None:
    with bare(served) as server:
        assert server.stdin
        for line in ("", "{", "[]", '"x"', "\x00", '{"jsonrpc":"2.0"}', "x" * 100_000):
            server.stdin.write(line + "\n")
        say(server, HELLO)
        assert next(one for one in iter(lambda: hear(server), {}) if one.get("id") == 1)["result"]


@pytest.mark.parametrize("end", [lambda one: one.stdin.close(), lambda one: one.terminate()], ids=["eof", "sigterm"])
def test_it_ends_with_its_client_and_leaves_no_process(served: Any, end: Callable[[Any], None]) -> None:
    with bare(served) as server:
        worker = begun(server)
        end(server)
        assert server.wait(60) == 0
        assert not Path(f"/proc/{worker}").exists()


def test_a_worker_that_is_killed_in_the_middle_fails_one_call_and_is_replaced(served: Any) -> None:
    with bare(served) as server:
        worker = begun(server)
        say(server, called(3, "audit_sql", query=ENDLESS))
        os.kill(worker, signal.SIGKILL)
        answer = hear(server)["result"]
        assert answer["isError"]
        assert "more memory or time than it may" in answer["content"][0]["text"]
        say(server, called(4, "audit_sql", query="SELECT 1"))
        assert not hear(server)["result"]["isError"]


def test_a_server_that_is_killed_takes_its_worker_with_it(served: Any) -> None:
    with bare(served) as server:
        worker = begun(server)
        descriptor = os.pidfd_open(worker)
        server.kill()
        server.wait(60)
        import select

        assert select.select([descriptor], [], [], 60)[0], "the worker outlives its server"
        os.close(descriptor)


def test_a_place_that_is_none_ends_at_once(served: Any) -> None:
    done = subprocess.run([*served.command[:4], "nowhere"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "no folder 'nowhere'" in done.stderr
