"""What happens before a server looks at a request: foreign hosts, preflights, planned failures, dropped connections."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import Response

from cfaudit_sandbox.server.rpc import refusal
from cfaudit_sandbox.server.upstream import EDGE_DROPS, EdgeDrop, Upstream

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from cfaudit_sandbox.world.world import World

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
TRANSPORT = "cfaudit.transport"
"""The key under which a connection lies in the extensions of a request's scope."""
_SERVICE_HOSTS = ("auditlogs.mcp.cloudflare.com", "mcp.cloudflare.com", "staging.mcp.cloudflare.com")
_PLAYGROUND = "playground.ai.cloudflare.com"
_SERVER_ERROR = -32000
_HALF_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: applica"
_HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 512\r\n\r\n{"result":{"con'
_SENT = {"before": b"", "in": _HALF_HEAD, "after": _HEAD}
_RESET = struct.pack("ii", 1, 0)


class Edge:
    """The outermost part of an emulated server."""

    def __init__(self, world: World, upstream: Upstream, hosts: Collection[str]) -> None:
        self._world = world
        self._upstream = upstream
        self._hosts = frozenset((*LOOPBACK, *_SERVICE_HOSTS, *hosts, *world.options.allowed_hosts))
        self.reset()

    def reset(self) -> None:
        """Begin again with what happens by chance."""
        self._rng = random.Random(f"{self._world.options.seed}/edge")

    def fails(self) -> Response | None:
        """Answer as the edge does when it is its turn to fail, planned or by chance."""
        planned = self._upstream.planned_at_edge()
        if isinstance(planned, int):
            page = "<html><body>error code: 1101</body></html>"
            return Response(page, planned, media_type="text/html")
        if planned is not None:
            return Drop(planned)
        rate = self._world.options.edge_drop_rate
        return Drop(self._rng.choice(EDGE_DROPS)) if rate and self._rng.random() < rate else None

    def refuses(self, request: Request) -> Response | None:
        """Refuse a Host or Origin that the server does not answer to, against DNS rebinding."""
        host = _hostname(f"//{request.headers.get('host', '')}")
        origin = request.headers.get("origin")
        problem = ""
        if host not in self._hosts:
            problem = f"Invalid Host: {host}"
        elif origin is not None and _hostname(origin) not in (*self._hosts, _PLAYGROUND):
            problem = f"Invalid Origin: {_hostname(origin)}"
        if not problem:
            return None
        reply = refusal(403, _SERVER_ERROR, problem)
        return Response(reply.body, reply.status, media_type="application/json")


class Drop(Response):
    """No answer: the connection ends before, in or after the head of one, in order (FIN) or by a reset (RST)."""

    def __init__(self, manner: EdgeDrop) -> None:
        super().__init__(status_code=200)
        self._how, _, self._when = manner.partition("-")

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Write as much as is to arrive, and end the connection."""
        transport: asyncio.Transport = scope["extensions"][TRANSPORT]
        transport.write(_SENT[self._when])
        if self._how == "rst":
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


def _hostname(url: str) -> str:
    """Take the host out of a URL, IPv6 addresses in brackets."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return url
    return f"[{host}]" if ":" in host else host
