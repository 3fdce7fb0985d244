"""A server that never stops talking is left before it fills the memory, and large rows do not fill it either."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cfaudit_export.core.model import iso
from cfaudit_sandbox import Sandbox, SandboxOptions, World

CHILD = Path(__file__).parent / "draining_child.py"
MOST_MB = 256
BLOCK = b" " * 65_536
DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "resultType": "complete",
    "ttlMs": 0,
    "cacheScope": "private",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "endless", "version": "1"}},
}
TOOL = {
    "name": "auditlogs_by_account_id",
    "inputSchema": {"type": "object", "properties": {"since": {"type": "string"}, "before": {"type": "string"}}},
}


def endless_body(_number: object) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"
    yield from itertools.repeat(BLOCK)


def endless_event(_number: object) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nevent: message\ndata: "
    yield from itertools.repeat(BLOCK)


def endless_error(_number: object) -> Iterator[bytes]:
    yield b"HTTP/1.1 503 Away\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"
    yield from itertools.repeat(BLOCK)


def bomb(_number: object) -> Iterator[bytes]:
    packed = gzip.compress(BLOCK * 4_000, 1)
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    yield b"Content-Length: %d\r\n\r\n" % len(packed) + packed


def many_issues(number: object) -> Iterator[bytes]:
    issue = {"path": ["result", 7, "resource", "response"], "message": "Invalid input: expected record, received array"}
    said = "Error reading audit logs: " + json.dumps([issue] * 200_000)
    result = {"content": [{"type": "text", "text": json.dumps({"error": said})}], "isError": True}
    yield from json_reply(number, result | {"resultType": "complete"}, b"Connection: close\r\n")


def json_reply(number: object, result: object, more: bytes = b"") -> Iterator[bytes]:
    body = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    yield head + more + b"\r\n" + body


@contextmanager
def talking(replies: object) -> Iterator[str]:
    """Serve a server that opens a session, and answers every call of its tool with these pieces; yield its URL."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                threading.Thread(target=answer, args=(accepted,), daemon=True).start()

    def answer(accepted: socket.socket) -> None:
        with accepted, suppress(OSError, ValueError), accepted.makefile("rb") as asked:
            while head := asked.readline():
                length = 0
                while (line := asked.readline().strip()) and head:
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                message = json.loads(asked.read(length))
                listed = {"tools": [TOOL], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
                known = {"server/discover": DISCOVERED, "tools/list": listed}.get(message["method"])
                pieces = json_reply(message["id"], known) if known else replies(message["id"])  # type: ignore[operator]  # any of above
                for piece in pieces:
                    accepted.sendall(piece)
                if known is None:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def drained(token: str, *options: str) -> dict[str, Any]:
    environ = {"CLOUDFLARE_API_TOKEN": token, "PATH": os.environ["PATH"], "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, CHILD, *options], env=environ, capture_output=True, text=True, timeout=500, check=False
    )
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told | {"said": done.stderr[-1_000:]}


@pytest.mark.parametrize(
    "replies",
    [
        endless_event,
        bomb,
        pytest.param(endless_body, marks=pytest.mark.soak),
        pytest.param(endless_error, marks=pytest.mark.soak),
        pytest.param(many_issues, marks=pytest.mark.soak),
    ],
)
def test_a_server_without_end_is_left_in_time(replies: object) -> None:
    with talking(replies) as url:
        told = drained("cfat_made-up", url, "--account", "a" * 32)
    assert told["code"] in (65, 75, 76), told
    assert told["peak_mb"] < MOST_MB


@pytest.mark.parametrize("rows", [250, pytest.param(1_500, marks=pytest.mark.soak)])
@pytest.mark.parametrize("source", ["auditlogs", "codemode"])
def test_large_rows_and_all_their_columns_take_no_more(source: str, rows: int) -> None:
    world = World(SandboxOptions(events=1))
    account = world.accounts[0].id
    model, now, random = next(world.records(account)), datetime.now(UTC), Random(rows)

    def record(number: int) -> dict[str, Any]:
        at, text = now - timedelta(hours=20) + timedelta(seconds=40 * number), f"{random.getrandbits(4 * 65_536):x}"
        return model | {"id": f"{number}", "action": {**model["action"], "time": iso(at), "description": text}}

    world.add(account, [record(number) for number in range(rows)])
    with Sandbox(world) as sandbox:
        url = sandbox.mcp_url if source == "auditlogs" else sandbox.codemode_url
        options = ("--account", account, "--source", source, "-o", f"sources.{source}.budget_calls=0")
        told = drained(world.tokens["account"], url, *options)
    assert told["code"] == 0, told
    assert told["peak_mb"] < MOST_MB
