"""A server that answers every request in one hostile way, over plain sockets: no library keeps it decent."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

BLOCK = b" " * 65_536
DRIPS = 6_000
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202etxt\u2066\u200f\x9b31m\r\n\x00<b>=cmd()|'/C calc'!A0"
"""What a terminal, a reader of right-to-left text, a log or a spreadsheet would act upon."""


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def page(status: str, body: bytes, kind: str = "application/json", *lines: str) -> Iterator[bytes]:
    """Yield a whole reply."""
    yield head(status, f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *lines) + body


def drip(begin: bytes) -> Iterator[bytes]:
    yield begin
    for _ in range(DRIPS):
        yield b""  # a pause, see `Peer`
        yield b"a"


def chunked_without_end() -> Iterator[bytes]:
    yield head("200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked")
    yield from itertools.repeat(b"10000\r\n" + BLOCK + b"\r\n")


def bomb() -> Iterator[bytes]:
    """Yield two gigabytes that are two megabytes on the way."""
    packed = gzip.compress(BLOCK * 1_600, 9)
    body = b"".join([packed] * 20)
    yield from page("200 OK", body, "application/json", "Content-Encoding: gzip")


def escapes(status: str) -> Iterator[bytes]:
    said = {"error": ESCAPES, "error_description": ESCAPES, "message": ESCAPES, "text": ESCAPES, "code": ESCAPES}
    body = json.dumps(said | {"errors": [{"code": 1, "message": ESCAPES, "reason": ESCAPES}]}).encode()
    kept = ESCAPES.encode().replace(b"\r\n", b"").replace(b"\0", b"").decode("latin-1")
    yield from page(status, body, "application/json", f"WWW-Authenticate: Bearer error={kept}", f"Server: {kept}")


LONG = b"x" * 3_000_000
BEHAVIOURS: dict[str, Callable[[], Iterator[bytes]]] = {
    "says nothing": lambda: iter([b"", *[b""] * DRIPS]),
    "hangs up": lambda: iter(()),
    "ends half of it": lambda: iter([head("200 OK", "Content-Type: application/json", "Content-Length: 99") + b'{"a']),
    "drips at the head": lambda: drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "drips in the body": lambda: drip(head("200 OK", "Content-Type: application/json", "Content-Length: 9999")),
    "has no end": lambda: itertools.chain([head("200 OK", "Content-Type: text/xml")], itertools.repeat(BLOCK)),
    "has no end, in chunks": chunked_without_end,
    "has no end, as an error": lambda: itertools.chain([head("503 Away")], itertools.repeat(BLOCK)),
    "has no end, as a stream": lambda: itertools.chain(
        [head("200 OK", "Content-Type: text/event-stream") + b"data: "], itertools.repeat(BLOCK)
    ),
    "has headers without end": lambda: itertools.chain(
        [b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X-More: yes\r\n" * 99)
    ),
    "has one header without end": lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nX-Long: "], itertools.repeat(BLOCK)),
    "says continue without end": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
    "sends a bomb": bomb,
    "nests deeply": lambda: page("200 OK", b"[" * 1_500_000 + b"]" * 1_500_000),
    "nests tags deeply": lambda: page("200 OK", b"<ListBucketResult>" + b"<a>" * 1_300_000, "application/xml"),
    "expands entities": lambda: page(
        "200 OK",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b0 "'
        + b"b" * 99
        + b'">'
        + b"".join(b'<!ENTITY b%d "%s">' % (n, b"&b%d;" % (n - 1) * 9) for n in range(1, 12))
        + b"]><ListBucketResult><Name>&b11;</Name></ListBucketResult>",
        "application/xml",
    ),
    "has a million keys": lambda: page("200 OK", json.dumps(dict.fromkeys(map(str, range(1_000_000)))).encode()),
    "has a long number": lambda: page("200 OK", b'{"jsonrpc":"2.0","id":' + b"9" * 200_000 + b"}"),
    "has a long text": lambda: page("403 Forbidden", b'{"error":"' + LONG + b'"}'),
    "shows a page": lambda: page("200 OK", b"<html><body>Please sign in</body></html>", "text/html"),
    "sends no text": lambda: page("200 OK", bytes(range(256)) * 9),
    "speaks something else": lambda: iter([b"\x16\x03\x01\x02\x00" + bytes(range(256)) * 9]),
    "leads in a circle": lambda: page("307 Temporary Redirect", b"", "text/plain", "Location: /"),
    "leads elsewhere": lambda: page("308 Permanent Redirect", b"", "text/plain", "Location: http://127.0.0.1:9/x"),
    "is a proxy that wants a password": lambda: page(
        "407 Proxy Authentication Required", b"no", "text/plain", "Proxy-Authenticate: Basic realm=x"
    ),
    "is busy for a year": lambda: page("429 Too Many Requests", b"no", "text/plain", "Retry-After: 31536000"),
    "is away for ever": lambda: page("503 Away", b"no", "text/plain", f"Retry-After: {'9' * 400}"),
    "refuses with escapes": lambda: escapes("403 Forbidden"),
    "fails with escapes": lambda: escapes("500 Internal Server Error"),
    "asks to sign in with escapes": lambda: escapes("401 Unauthorized"),
    "says OK and nothing": lambda: page("200 OK", b""),
    "says 204": lambda: iter([head("204 No Content", "Connection: close")]),
    "says null": lambda: page("200 OK", b"null"),
}
"""What a peer does once it has read a request. An empty piece is a pause of a few milliseconds."""


@dataclass
class Peer:
    """A server of one behaviour.

    Attributes:
        url: where it listens.
        behaviour: what it does with every request.
        requests: so many were read.
        over: set when it is no longer needed.
        asked: set once a request was read.
    """

    url: str
    behaviour: str
    requests: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def answer(self, connection: socket.socket) -> None:
        """Read a request and do what this peer does."""
        connection.settimeout(60)
        with connection, suppress(OSError):
            self._read(connection)
            self.requests += 1
            self.asked.set()
            if self.behaviour == "hangs up":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for piece in BEHAVIOURS[self.behaviour]():
                if self.over.wait(0 if piece else 0.02):
                    return
                connection.sendall(piece)

    @staticmethod
    def _read(connection: socket.socket) -> None:
        heard = b""
        while b"\r\n\r\n" not in heard and (piece := connection.recv(1 << 16)):
            heard += piece
        named, _, body = heard.partition(b"\r\n\r\n")
        lengths = [line for line in named.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        left = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
        if b"expect: 100-continue" in named.lower():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while left > 0 and (piece := connection.recv(1 << 16)):
            left -= len(piece)


@contextmanager
def serving(behaviour: str, host: str = "127.0.0.1") -> Iterator[Peer]:
    """Serve it in threads of this process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        peer = Peer(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", behaviour)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=peer.answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield peer
        peer.over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
