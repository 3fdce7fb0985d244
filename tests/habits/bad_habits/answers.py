"""An HTTP answer, and how it is written to a socket."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field, replace
from socket import SO_LINGER, SOL_SOCKET
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An HTTP answer before it is bytes.

    Attributes:
        status: of HTTP.
        body: all of it.
        kind: the content type; empty for none.
        headers: further ones.
        chunked: whether the body is sent in chunks, which leaves its length open, or with its length.
    """

    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False

    def having(self, **fields: Any) -> Answer:
        return replace(self, **fields)

    def with_header(self, name: str, value: str) -> Answer:
        return replace(self, headers=(*self.without_header(name).headers, (name, value)))

    def without_header(self, name: str) -> Answer:
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() != name.lower()))

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {'OK' if self.status < 400 else 'Not OK'}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.kind:
            lines.append(f"Content-Type: {self.kind}")
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def wire(self) -> bytes:
        if not self.chunked:
            return self.head() + self.body
        half = len(self.body) // 2
        parts = [part for part in (self.body[:half], self.body[half:]) if part]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return self.head() + chunks + b"0\r\n\r\n"


@dataclass(eq=False)
class Line:
    """A connection while an answer is written to it; a wire habit that returns False has ended it."""

    writer: asyncio.StreamWriter
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End it as a crash does: with RST, and what is on the way lost."""
        socket = self.writer.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def stall(self) -> None:
        """Say nothing until the client has had enough, or the server ends."""
        await self.stalled.wait()
