"""A server that never stops talking is left before it fills the memory, whatever it talks in."""

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
from pathlib import Path

import pytest

CHILD = Path(__file__).parent / "draining_child.py"
MOST_MB = 256
# What the largest reply that is read takes whole, which the SDK holds several times while it is decoded.
MOST_MB_OF_REPLY = 288
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


def endless_body() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"
    yield from itertools.repeat(BLOCK)


def endless_event() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nevent: message\ndata: "
    yield from itertools.repeat(BLOCK)


def endless_error() -> Iterator[bytes]:
    yield b"HTTP/1.1 503 Away\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"
    yield from itertools.repeat(BLOCK)


def bomb() -> Iterator[bytes]:
    packed = gzip.compress(BLOCK * 4_000, 1)
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    yield b"Content-Length: %d\r\n\r\n" % len(packed) + packed


def many_issues() -> Iterator[bytes]:
    issue = {"path": ["result", 7, "resource", "response"], "message": "Invalid input: expected record, received array"}
    said = "Error reading audit logs: " + json.dumps([issue] * 200_000)
    result = {"content": [{"type": "text", "text": json.dumps({"error": said})}], "isError": True}
    yield from json_reply(1, result | {"resultType": "complete"}, b"Connection: close\r\n")


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
                pieces = json_reply(message["id"], known) if known else replies()  # type: ignore[operator]  # any of above
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
    environ = {"CLOUDFLARE_API_TOKEN": "cfat_made-up", "PATH": os.environ["PATH"], "NO_PROXY": "*"}
    with talking(replies) as url:
        done = subprocess.run(
            [sys.executable, CHILD, url], env=environ, capture_output=True, text=True, timeout=500, check=False
        )
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["code"] in (65, 75, 76), done.stderr
    assert told["peak_mb"] < (MOST_MB_OF_REPLY if replies is many_issues else MOST_MB)
