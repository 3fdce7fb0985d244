"""A proxy that treats requests to S3 as real networks and stores do: answers get lost, stores fail, headers vanish."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Seen:
    """A request that came through: number, method, path with query, headers in lower case."""

    number: int
    method: str
    path: str
    headers: dict[str, str]

    @property
    def what(self) -> str:
        kinds = {"uploads": "begin", "partNumber": "part", "uploadId": "complete"}
        kind = next(
            (word for mark, word in kinds.items() if f"{mark}=" in self.path or self.path.endswith(f"?{mark}")), ""
        )
        kind = "abort" if kind == "complete" and self.method == "DELETE" else kind
        things = {
            "/batches/": "note",
            ".parquet": "data",
            ".lease": "lease",
            "/state/conditions": "other",
            "/state/": "state",
        }
        thing = next((word for mark, word in things.items() if mark in self.path), "other")
        return f"{self.method} {thing} {kind}".strip()


@dataclass(frozen=True)
class Page:
    """What a proxy or a portal says in the store's place.

    Attributes:
        status: HTTP status.
        body: what it shows.
        headers: beside the length.
        forwarded: whether the store hears of the request nevertheless.
    """

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    forwarded: bool = False


Fate = str | tuple[int, str] | Page
"""What becomes of a request: `pass`, `lose` its answer, `drop` it unseen, or a status with a code, or a page."""


@dataclass
class Weather:
    """How a proxy treats what comes through it.

    Attributes:
        fate: decides on each request; may do anything else beside, such as to kill a process.
        after: told of each request that was let through, before its answer is sent.
        status: may put another status in the place of the store's.
        garbled: says whose body is changed on the way.
        without_headers: headers that get lost on the way.
        date: the time by the store's clock, None for what it says itself.
        etag: rewrites the ETag of an answer.
        seen: all requests so far.
    """

    fate: Callable[[Seen], Fate] = lambda _seen: "pass"
    after: Callable[[Seen], None] = lambda _seen: None
    status: Callable[[Seen, int], int] = lambda _seen, status: status
    garbled: Callable[[Seen], bool] = lambda _seen: False
    without_headers: frozenset[str] = frozenset()
    date: Callable[[], str] | None = None
    etag: Callable[[Seen, str], str] = lambda _seen, etag: etag
    seen: list[Seen] = field(default_factory=list)
    count: Iterator[int] = field(default_factory=itertools.count)

    def strike(self, what: str, fate: Fate, times: int = 1_000_000) -> None:
        """Let the next requests of a kind have a fate, and all others pass."""
        left = iter(range(times))
        self.fate = lambda seen: fate if what in seen.what and next(left, None) is not None else "pass"

    def whats(self) -> list[str]:
        """Return what was asked so far, and forget it."""
        whats = [seen.what for seen in self.seen]
        self.seen.clear()
        return whats


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    weather: Weather
    upstream: str

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(next(self.weather.count), self.command, self.path, headers)
        self.weather.seen.append(seen)
        fate = self.weather.fate(seen)
        if fate == "drop":
            self._hang_up()
        elif isinstance(fate, Page):
            if fate.forwarded:
                self._forward(headers, body)
            self._answer(fate.status, list(fate.headers), fate.body)
        elif isinstance(fate, tuple):
            status, code = fate
            self._answer(status, [], f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode())
        else:
            body = body[:-1] + b"?" if self.weather.garbled(seen) else body
            status, answer, content = self._forward(headers, body)
            status = self.weather.status(seen, status)
            answer = [
                (name, self.weather.etag(seen, text) if name.lower() == "etag" else text) for name, text in answer
            ]
            self.weather.after(seen)
            if fate == "lose":
                self._hang_up()
            else:
                self._answer(status, answer, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - names that the base class looks for

    def _forward(self, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        kept = {name: text for name, text in headers.items() if name not in self.weather.without_headers | {"expect"}}
        with closing(http.client.HTTPConnection(self.upstream, timeout=30)) as connection:
            connection.request(self.command, self.path, body, kept)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        if self.weather.date:
            headers = [(name, text) for name, text in headers if name.lower() != "date"]
            headers.append(("Date", self.weather.date()))
        length = {name.lower(): value for name, value in headers}.get("content-length", str(len(content)))
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed in the middle is what some tests are about."""


@contextmanager
def proxied(url: str, weather: Weather) -> Iterator[str]:
    attributes = {"weather": weather, "upstream": url.removeprefix("http://")}
    server = _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), attributes))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
