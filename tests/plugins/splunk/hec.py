"""A stand-in for Splunk's HTTP Event Collector: the event, ack and health endpoints, strict where Splunk is.

It keeps events as they came, knows tokens, channels, indexes and size limits, answers with Splunk's codes, and makes
the faults that it is told to make. Behaves as recorded of Splunk:

* the token is looked at first, then the channel, then the data
* a body is JSON objects one after the other; those before the first bad one are kept, and its number is told
* code 7 tells the number after that of the bad one
* acknowledgements count from 0 in each channel, and `true` is said once
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

TEXTS = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    16: (400, "Query string authorization is not enabled"),
    17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"),
    19: (503, "HEC is unhealthy, ack service unavailable"),
    20: (503, "HEC is unhealthy, queues are full, ack service unavailable"),
    23: (503, "Server is shutting down"),
    24: (200, "Queue is approaching capacity"),
    25: (200, "ACK channel is approaching capacity"),
    26: (429, "Queue is at capacity"),
    27: (429, "ACK channel is at capacity"),
    28: (400, "Data channel is missing or sticky sessions are off"),
}


@dataclass
class Token:
    acks: bool = False
    disabled: bool = False
    indexes: tuple[str, ...] = ("main",)


@dataclass
class Fault:
    """What goes wrong with one request for events.

    Attributes:
        code: what to answer instead, with Splunk's status and words.
        status: what to answer instead, without a code; `body` is what it says.
        headers: further headers of the answer.
        members: further members of the answer.
        keeps: whether the events are kept first; a number keeps so many.
        hangs_up: whether to close the connection instead of an answer.
        holds: answer only when this is set.
    """

    code: int | None = None
    status: int | None = None
    body: bytes = b"<html>proxy</html>"
    headers: dict[str, str] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)
    keeps: bool | int = False
    hangs_up: bool = False
    holds: threading.Event | None = None


@dataclass
class Posted:
    """A request for events, as it came and as it was answered."""

    channel: str | None
    token: str
    headers: dict[str, str]
    bytes: int
    kept: list[str] = field(default_factory=list)
    code: int | None = None
    ack_id: int | None = None
    confirmed_by: int | None = None

    @property
    def confirmed(self) -> bool:
        """Whether the acknowledgement was said, by the poll of that number."""
        return self.confirmed_by is not None


class Collector:
    """The state of a stand-in."""

    def __init__(self) -> None:
        self.tokens = {"token-plain": Token(), "token-acks": Token(acks=True)}
        self.most_bytes = 800_000_000
        self.cloud_bytes = 800_000_000  # beyond this, Splunk Cloud calls the first object malformed
        self.fault_of: Callable[[Any], int] = lambda _object: 0  # the code for an object that is well-formed
        self.unhealthy: int | None = None
        self.faults: deque[Fault] = deque()
        self.ack_faults: deque[Fault] = deque()
        self.polls_until_indexed: float = 0
        self.posted: list[Posted] = []
        self.polls: list[list[int]] = []
        self.lock = threading.RLock()
        self._channels: dict[tuple[str, str], dict[int, list[Any]]] = {}

    @property
    def kept(self) -> list[str]:
        """Every object that was kept, as text, in order."""
        return [text for posted in self.posted for text in posted.kept]

    def restart(self) -> None:
        """Forget all channels, as a restart of Splunk does."""
        self._channels.clear()

    # -- requests: each returns code and further members ----------------------------------------------

    def take(self, posted: Posted, body: bytes, token: Token, *, counts: bool = True) -> tuple[int, dict[str, Any]]:
        if code := unfit(posted.channel, body, token):
            return code, {}
        for number, (code, piece) in enumerate(objects(body, self.cloud_bytes, token.indexes, self.fault_of)):
            if code:
                return code, {"invalid-event-number": number + (code == 7)}
            posted.kept.append(piece)
        if not token.acks or not counts:
            return 0, {}
        channel = self._channels.setdefault((posted.token, posted.channel or ""), {})
        posted.ack_id = len(channel)
        channel[posted.ack_id] = [self.polls_until_indexed, posted]
        return 0, {"ackId": posted.ack_id}

    def acknowledge(self, token: str, channel: str, ack_ids: list[int]) -> dict[str, bool]:
        """Say which are indexed; each only once."""
        self.polls.append(ack_ids)
        known = self._channels.get((token, channel), {})
        answer = {}
        for ack_id in ack_ids:
            entry = known.get(ack_id)
            answer[str(ack_id)] = entry is not None and entry[0] == 0
            if entry is not None:
                if entry[0] == 0:
                    entry[1].confirmed_by = len(self.polls)
                entry[0] -= 1  # below zero it has been said
        return answer


def unfit(channel: str | None, body: bytes, token: Token) -> int:
    """Return the code for a request that is not even looked into, else 0."""
    if channel is None:
        return 10 if token.acks else 0 if body else 5
    try:
        uuid.UUID(channel)
    except ValueError:
        return 11
    return 0 if body else 5


def objects(
    body: bytes, most_bytes: int, indexes: tuple[str, ...], fault_of: Callable[[Any], int]
) -> Iterator[tuple[int, str]]:
    """Yield a code and the text of each object of a body, up to the first that has a code other than 0."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    try:
        text = body.decode() if len(body) <= most_bytes else "too long"
        at = _blank(text, 0)
        while at < len(text):
            value, end = decoder.raw_decode(text, at)
            code = judge(value, indexes) or fault_of(value)
            yield code, text[at:end]
            at = len(text) if code else _blank(text, end)
    except ValueError:  # no UTF-8, or no JSON
        yield 6, ""


def judge(value: Any, indexes: tuple[str, ...]) -> int:
    if not isinstance(value, dict):
        return 6
    if "event" not in value or value["event"] is None:
        return 12
    if value["event"] == "":
        return 13
    fields = value.get("fields", {})
    if not isinstance(fields, dict) or any(isinstance(one, (dict, list)) for one in fields.values()):
        return 15
    time = value.get("time", 0)
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        return 6
    return 0 if value.get("index", indexes[0]) in indexes else 7


def _blank(text: str, at: int) -> int:
    match = re.compile(r"[ \t\r\n]*").match(text, at)
    assert match
    return match.end()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: Collector
    choose: Callable[[], Collector] | None = None
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/services/collector/health":
            self._say(self.collector.unhealthy or 17)
        else:
            self._answer(404, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if self.choose:
            self.collector = self.choose()
        with self.collector.lock:
            if path == "/services/collector/event":
                answer = self._take(body)
            elif path == "/services/collector/ack":
                answer = self._acknowledge(body)
            else:
                answer = partial(self._answer, 404, b'{"text":"The requested URL was not found.","code":404}')
        answer()

    def _take(self, body: bytes) -> Any:
        name, refusal = self._token()
        if refusal:
            return lambda: self._say(refusal)
        collector = self.collector
        encoding = self.headers.get("Content-Encoding", "")
        if encoding not in ("", "gzip"):
            return lambda: self._answer(415, b"")
        body = gzip.decompress(body) if encoding else body
        if len(body) > collector.most_bytes:
            return lambda: self._answer(413, b"Content-Length too large")
        posted = Posted(self.headers.get("X-Splunk-Request-Channel"), name, dict(self.headers), len(body))
        fault = collector.faults.popleft() if collector.faults and body else None
        code, members = 0, {}
        if fault is not None and type(fault.keeps) is int:
            known = collector.tokens[name].indexes
            body = "".join([piece for _, piece in objects(body, len(body), known, lambda _: 0)][: fault.keeps]).encode()
        if fault is None or fault.keeps:
            code, members = collector.take(posted, body, collector.tokens[name], counts=fault is None or not fault.code)
        if body:
            collector.posted.append(posted)
        if fault is None:
            posted.code = code
            return lambda: self._say(code, members)
        posted.code = fault.code
        return lambda: self._fail(fault, code, members)

    def _acknowledge(self, body: bytes) -> Any:
        name, refusal = self._token()
        if refusal:
            return lambda: self._say(refusal)
        collector = self.collector
        if not collector.tokens[name].acks:
            return lambda: self._say(14)
        channel = parse_qs(urlsplit(self.path).query).get("channel", [self.headers.get("X-Splunk-Request-Channel")])[0]
        if channel is None:
            return lambda: self._say(10)
        fault = collector.ack_faults.popleft() if collector.ack_faults else None
        acks = collector.acknowledge(name, channel, json.loads(body)["acks"]) if fault is None or fault.keeps else {}
        if fault is not None:
            return lambda: self._fail(fault, 0, {})
        return lambda: self._answer(200, json.dumps({"acks": acks}).encode())

    def _token(self) -> tuple[str, int | None]:
        given = self.headers.get("Authorization")
        if given is None:
            return "", 2
        scheme, _, token = given.partition(" ")
        if scheme != "Splunk":
            return "", 3
        if token not in self.collector.tokens:
            return "", 4
        return token, 1 if self.collector.tokens[token].disabled else None

    def _fail(self, fault: Fault, code: int, members: dict[str, Any]) -> None:
        if fault.holds:
            fault.holds.wait(30)
        if fault.hangs_up:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.status is not None:
            self._answer(fault.status, fault.body, fault.headers)
        elif fault.code is not None:
            self._say(fault.code, fault.members, fault.headers)
        else:
            self._say(code, members)

    def _say(self, code: int, members: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> None:
        status, text = TEXTS[code]
        self._answer(status, json.dumps({"text": text, "code": code, **(members or {})}).encode(), headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the asker is gone
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class Server:
    """A stand-in on a port of the loopback; `choose` makes it a balancer of several. A context manager."""

    def __init__(
        self,
        collector: Collector | None = None,
        tls: ssl.SSLContext | None = None,
        choose: Callable[[], Collector] | None = None,
    ) -> None:
        self.collector = collector or Collector()
        bound = {"collector": self.collector, "choose": choose and staticmethod(choose)}
        self._http = _Listening(("127.0.0.1", 0), type("BoundHandler", (Handler,), bound))
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def settle(self) -> None:
        """Wait until all that others sent is answered, and all connections are closed by them."""
        # Connections are accepted in their order, so those before this one are known when it is answered.
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as last:
            last.request("GET", "/services/collector/health")
            last.getresponse().read()
        with self._http.closed:
            assert self._http.closed.wait_for(lambda: not self._http.connections, timeout=10)


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connections = 0
        self.closed = threading.Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.closed:
            self.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.closed:
            self.connections -= 1
            self.closed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent about clients that hang up in the middle, or do not trust the certificate."""
