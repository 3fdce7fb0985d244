"""What no generation may surprise a client with: connections that end in the middle, and pages without rows."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from cfaudit_sandbox.server.upstream import EDGE_DROPS

if TYPE_CHECKING:
    from tests.core.sandbox.conftest import Connect, Wire

SENT = {"before": b"", "in": b"HTTP/1.1 200 OK\r\nContent-Type: applica", "after": b'{"result":{"con'}


def received(wire: Wire, path: str = "/mcp") -> tuple[bytes, bool]:
    """POST over a bare socket; return what arrives, and whether the connection was reset."""
    host, port = wire.sandbox.url.removeprefix("http://").split(":")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    lines = (f"POST {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", f"Content-Length: {len(body)}")
    head = "\r\n".join((*lines, "", "")).encode()
    found = b""
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head + body)
        try:
            while chunk := connection.recv(4096):
                found += chunk
        except ConnectionResetError:
            return found, True
    return found, False


@pytest.mark.parametrize("path", ["/mcp", "/codemode/mcp"])
@pytest.mark.parametrize("drop", EDGE_DROPS)
def test_a_connection_ends_where_it_is_told_to(wire: Wire, drop: Any, path: str) -> None:
    url = f"{wire.sandbox.url}/sandbox/fail-next"
    assert wire.http.post(url, json={"where": "edge", "status": drop}).json() == {"ok": True}
    found, was_reset = received(wire, path)
    how, when = drop.split("-")
    assert was_reset == (how == "rst")
    if not was_reset:  # a reset may overtake what was sent
        assert found.endswith(SENT[when])
        assert bool(found) == (when != "before")
    assert wire.sandbox.requests.entries[-1].status == 0
    assert received(wire, path)[0].startswith(b"HTTP/1.1 401")


def test_connections_end_by_chance_as_often_as_is_wished(connect: Connect) -> None:
    wire = connect(events=1, edge_drop_rate=1.0)
    assert not received(wire)[0].endswith(b"}")
    wire.world.turn(edge_drop_rate=0.0)
    assert received(wire)[0].endswith(b"}")


@pytest.mark.parametrize("style", ["absent", "empty", "extra-page"])
@pytest.mark.parametrize("kind", ["keyset", "offset", "expiring"])
def test_pages_without_rows_come_before_each_page_and_lead_on(connect: Connect, kind: str, style: str) -> None:
    wire = connect(events=20, empty_pages=2, cursor_kind=kind, end_style=style, page_cap=8)
    first = wire.read()
    assert first["logs"] == []
    assert first["result_info"] == {"count": 0, "cursor": "~"}
    assert wire.walk() == list(wire.world.rows(wire.world.accounts[0].id))
