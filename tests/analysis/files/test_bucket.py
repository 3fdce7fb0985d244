"""A store that answers as it should not: each exchange has an end, and nothing else is taken for an object."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.files import bucket, scan
from cfaudit_export.analysis.files.database import open_data
from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.files.statement import answers
from cfaudit_export.errors import AccessError, CfauditError, SettingsError, TryAgainError

MOMENT = datetime(2026, 11, 1, 12, tzinfo=UTC)
LIST = """<?xml version="1.0"?><ListBucketResult><Name>audit</Name><IsTruncated>false</IsTruncated>
<Contents><Key>{key}</Key><Size>{size}</Size><ETag>"one"</ETag></Contents></ListBucketResult>"""
_MOST_DRIPS = 2_000


class Store:
    """A bucket with one object, whose answers to some questions are spoilt.

    Attributes:
        spoil: given the kind of a question (`list`, `footer`, `pages`), says how its answer is spoilt.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.content = path.read_bytes()
        self.listing = LIST.format(key=path.relative_to(root).as_posix(), size=len(self.content)).encode()
        self.spoil: Callable[[str], str] = lambda _: ""
        self.over = threading.Event()
        self.pages = 0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if "list-type=2" in request.path:
            self.send(request, 200, self.listing, {}, self.spoil("list"))
            return
        first, last = (int(end) for end in request.headers["Range"].removeprefix("bytes=").split("-"))
        span = f"bytes {first}-{last}/{len(self.content)}"
        headers = {"ETag": '"one"', "Content-Range": span}
        kind = "footer" if last == len(self.content) - 1 else "pages"
        self.send(request, 206, self.content[first : last + 1], headers, self.spoil(kind))

    def send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], spoilt: str
    ) -> None:
        match spoilt:
            case "drips at the head" | "lists without end":
                (self.drip if spoilt.startswith("drips") else self.flood)(request, b"HTTP/1.1 200 OK\r\nX-Slow: ")
                return
            case "has one more page":
                more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>"
                self.pages += 1
                body = re.sub(b"<IsTruncated>.*</IsTruncated>", more % self.pages, body)
            case "another object":
                headers = headers | {"ETag": '"two"'}
            case "another size":
                headers = headers | {"Content-Range": "bytes 0-9/10"}
            case "the whole object":
                status, body, headers = 200, self.content, {"ETag": '"one"'}
            case "a page of a portal":
                status, body, headers = 200, b"<html><body>Please sign in</body></html>", {"ETag": '"one"'}
            case "forbidden" | "overloaded" | "gone":
                status, code = {"forbidden": (403, "AccessDenied"), "overloaded": (503, "SlowDown")}.get(
                    spoilt, (404, "NoSuchKey")
                )
                body = f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if spoilt == "drips in the body":
            self.drip(request, body[:1])
        else:
            request.wfile.write(body[: len(body) // 2] if spoilt == "ends early" else body)
            request.close_connection = spoilt == "ends early"

    def flood(self, request: BaseHTTPRequestHandler, begin: bytes) -> None:
        request.wfile.write(begin + b"no\r\n\r\n")
        while not self.over.is_set():
            request.wfile.write(self.listing * 1_000)

    def drip(self, request: BaseHTTPRequestHandler, begin: bytes) -> None:
        request.wfile.write(begin)
        for _ in range(_MOST_DRIPS):
            if self.over.wait(0.02):
                break
            request.wfile.write(b"a")
        request.close_connection = True


@pytest.fixture
def store(tmp_path: Path, store_rows: Callable[..., Path]) -> Store:
    root = store_rows(tmp_path, [{"event_time": MOMENT, "event_raw": f"{n:>900}"} for n in range(20)])
    [path] = root.rglob("*.parquet")
    return Store(path, root)


@pytest.fixture
def ask(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Any]]]:
    """Return what counts the events of the bucket, with a longest silence of a fifth of a second."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(OSError):  # the client has gone
                store.answer(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    def ask(attempts: int = 1) -> list[Any]:
        url = f"http://127.0.0.1:{server.server_port}"
        options = {"endpoint_url": url, "attempts": attempts, "timeout_seconds": 0.2 * attempts}
        with open_data(open_location("s3://audit", options)) as data:
            [answer] = answers(data, "SELECT count(event_raw) AS n FROM audit_events")
            return [row for batch in answer.batches for row in batch.to_pylist()]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setattr(scan, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(scan, "_GAP_BYTES", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ask
    store.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_store_that_answers_is_read(ask: Any) -> None:
    assert ask() == [{"n": 20}]


@pytest.mark.parametrize("place", ["list", "footer", "pages"])
@pytest.mark.parametrize("how", ["drips at the head", "drips in the body"])
def test_a_store_that_drips_is_left_when_the_time_is_over(ask: Any, store: Store, place: str, how: str) -> None:
    store.spoil = lambda kind: how if kind == place else ""
    with pytest.raises(TryAgainError, match=r"'s3://audit' cannot be reached: not finished within .* try again later"):
        ask()


def test_a_list_without_end_is_left_before_it_fills_the_memory(ask: Any, store: Store) -> None:
    store.spoil = lambda kind: "lists without end" if kind == "list" else ""
    with pytest.raises(TryAgainError, match="the reply is larger than 4,000,000 bytes; try again later"):
        ask()


def test_a_list_with_one_more_page_each_time_is_left(ask: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "_MOST_OBJECTS", 20)
    store.spoil = lambda kind: "has one more page" if kind == "list" else ""
    with pytest.raises(SettingsError, match="its list has more than 20 objects; name a longer prefix"):
        ask()
    assert store.pages == 21


SPOILT: dict[tuple[str, str], tuple[type[CfauditError], str]] = {
    ("list", "a page of a portal"): (TryAgainError, "not one of S3"),
    ("list", "ends early"): (TryAgainError, "cannot be read now|cannot be reached"),
    ("list", "forbidden"): (AccessError, "not allowed to read .*said so"),
    ("list", "overloaded"): (TryAgainError, "cannot be read now: SlowDown"),
    ("pages", "another object"): (TryAgainError, "were replaced while they were read"),
    ("pages", "another size"): (TryAgainError, "were replaced while they were read"),
    ("pages", "gone"): (TryAgainError, "were replaced while they were read"),
    ("footer", "the whole object"): (TryAgainError, "not one of S3"),
    ("footer", "a page of a portal"): (TryAgainError, "not one of S3"),
    ("footer", "forbidden"): (AccessError, "not allowed to read"),
    ("pages", "overloaded"): (TryAgainError, "cannot be read now"),
    ("pages", "ends early"): (TryAgainError, "not one of S3|cannot be reached"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_nothing_else_is_taken_for_an_answer_of_the_store(ask: Any, store: Store, spoilt: tuple[str, str]) -> None:
    place, how = spoilt
    store.spoil = lambda kind: how if kind == place else ""
    error, words = SPOILT[spoilt]
    with pytest.raises(error, match=words):
        ask()


def test_a_connection_that_breaks_in_an_answer_is_no_end(ask: Any, store: Store) -> None:
    broken = iter(["ends early"])
    store.spoil = lambda kind: next(broken, "") if kind == "pages" else ""
    assert ask(attempts=4) == [{"n": 20}]


@pytest.mark.parametrize("whole", [0, 1 << 20])
def test_an_object_that_would_fill_the_memory_is_skipped(
    ask: Any, store: Store, monkeypatch: pytest.MonkeyPatch, whole: int, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scan, "_WHOLE_BYTES", whole)
    assert ask() == [{"n": 20}]
    monkeypatch.setattr(Limits, "group_bytes", 2_000)
    assert ask() == [{"n": 0}]
    assert [vars(one)["why"] for one in caplog.records if one.getMessage() == "skipped"]
