"""Exchanges have an end, in time and in bytes, whatever the peer does."""

from __future__ import annotations

import gzip
import itertools
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
import httpx2
import pytest

from cfaudit_export.core.deadline import Deadline, DeadlineError
from cfaudit_export.errors import SettingsError
from cfaudit_export.http.exchange import AsyncBoundedTransport, ReplyCutError, ReplyTooLargeError, open_client

Sends = Callable[[], Iterator[bytes]]
TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to load the system's certificates takes longer than a test
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@contextmanager
def peer(sends: Sends, *, pause: float = 0.0) -> Iterator[str]:
    """Serve a socket that answers whatever it is asked with these pieces, one after each pause; yield its URL."""
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                threading.Thread(target=answer, args=(accepted,), daemon=True).start()

    def answer(accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            accepted.recv(65_536)
            for piece in sends():
                accepted.sendall(piece)
                if over.wait(pause):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


def whole(body: bytes, *headers: bytes) -> Sends:
    lines = b"".join(line + b"\r\n" for line in headers)
    return lambda: iter([HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body), body])


def get(
    url: str, seconds: float = 30.0, most_bytes: int = 1_000_000, *, verify: ssl.SSLContext | bool = TRUST
) -> httpx2.Response:
    with open_client(seconds, most_bytes=most_bytes, verify=verify) as http:
        return http.get(url)


def get_async(
    url: str, seconds: float = 30.0, most_bytes: int = 1_000_000, *, verify: ssl.SSLContext | bool = TRUST
) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        transport = AsyncBoundedTransport(seconds, most_bytes=most_bytes, verify=verify)
        async with httpx2.AsyncClient(transport=transport) as http:
            return await http.get(url)

    return anyio.run(ask)


both = pytest.mark.parametrize("ask", [get, get_async])
Ask = Callable[..., httpx2.Response]


@both
@pytest.mark.parametrize(
    "begin", [b"", HEAD, HEAD + b"Content-Length: 999999\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_peer_that_drips_is_left_when_the_time_is_over(ask: Ask, begin: bytes) -> None:
    tick = b"1\r\nx\r\n" if begin.endswith(b"chunked\r\n\r\n") else b"x"
    with peer(lambda: itertools.chain([begin], itertools.repeat(tick)), pause=0.05) as url:
        since = time.monotonic()
        with pytest.raises(httpx2.ReadTimeout, match="no complete reply within 0.4 s"):
            ask(url, seconds=0.4)
        assert time.monotonic() - since < 20, "and not when the peer has had enough"


@both
@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n", b"Connection: close\r\n\r\n"], ids=["chunked", "close"]
)
def test_a_reply_without_end_is_left_at_the_cap(ask: Ask, framing: bytes) -> None:
    block = b"a" * 65_536
    piece = b"%x\r\n%s\r\n" % (len(block), block) if b"chunked" in framing else block
    endless = itertools.chain([HEAD + framing], itertools.repeat(piece))
    with peer(lambda: endless) as url, pytest.raises(ReplyTooLargeError, match="larger than 1,000,000 bytes"):
        ask(url)


@both
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_left_at_the_cap(ask: Ask, encoding: str) -> None:
    packed = (gzip.compress if encoding == "gzip" else zlib.compress)(bytes(20_000_000))
    assert len(packed) < 30_000
    with peer(whole(packed, b"Content-Encoding: " + encoding.encode())) as url, pytest.raises(ReplyTooLargeError):
        ask(url)


def bare(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@both
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", bare),
        (b"deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
        (b"identity", bytes),
    ],
)
def test_what_is_compressed_is_read(ask: Ask, encoding: bytes, pack: Callable[[bytes], bytes]) -> None:
    body = b"events " * 20_000
    with peer(whole(pack(body), b"Content-Encoding: " + encoding)) as url:
        assert ask(url).content == body


@both
@pytest.mark.parametrize(
    ("encoding", "body", "error"),
    [
        (b"gzip", gzip.compress(b"events " * 2_000)[:-12], ReplyCutError),
        (b"gzip", b"<html>", httpx2.DecodingError),
        (b"br", b"events", httpx2.DecodingError),
    ],
    ids=["cut", "no gzip", "another coding"],  # gzip writes the time into its head, and every worker needs equal names
)
def test_what_is_badly_compressed_is_no_reply(ask: Ask, encoding: bytes, body: bytes, error: type[Exception]) -> None:
    with peer(whole(body, b"Content-Encoding: " + encoding)) as url, pytest.raises(error):
        ask(url)


@both
def test_the_reply_of_an_error_is_read_to_a_megabyte_at_most(ask: Ask) -> None:
    head = b"HTTP/1.1 503 Away\r\nConnection: close\r\n\r\n"
    endless = itertools.chain([head], itertools.repeat(bytes(65_536)))
    with peer(lambda: endless) as url, pytest.raises(ReplyTooLargeError):
        ask(url, most_bytes=500_000_000)


@both
def test_a_dead_proxy_is_named_as_the_proxy(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(httpx2.ProxyError, match=f"the proxy '127.0.0.1:{port}' cannot be reached.*HTTPS_PROXY"):
            ask("http://server.example/")


@both
def test_a_connection_that_is_refused_says_so(ask: Ask) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(httpx2.ConnectError, match="Connection refused"):
            ask(f"http://127.0.0.1:{silent.getsockname()[1]}/")


@both
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "pip install socksio"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:1", "does not name a proxy"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "SSL_CERT_FILE='/nowhere/ca.pem'"),
        ("SSL_CERT_FILE", __file__, "the certificates to trust cannot be read"),
    ],
)
def test_a_broken_environment_is_a_matter_of_settings(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=said):
        ask("http://127.0.0.1:9/", verify=True)


def test_a_client_can_be_used_from_several_threads_and_keeps_its_connections() -> None:
    with peer(whole(b"events")) as url, open_client(30.0, verify=TRUST) as http:
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(http.get(url).content)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [b"events"] * 8


def test_any_work_can_be_given_a_deadline() -> None:
    over = threading.Event()
    assert Deadline.after(30.0).run(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        Deadline.after(30.0).run(lambda: 1 / 0)
    with pytest.raises(TimeoutError, match="the work's own"):
        Deadline.after(30.0).run(lambda: (_ for _ in ()).throw(TimeoutError("the work's own")))
    with pytest.raises(DeadlineError, match="not finished within 0.05 s"):
        Deadline.after(0.05).run(over.wait)
    over.set()


def test_a_deadline_counts_by_its_clock() -> None:
    now = [100.0]
    deadline = Deadline.after(5.0, lambda: now[0])
    now[0] += 3.0
    assert deadline.left() == 2.0
    now[0] += 3.0
    assert deadline.left() == 0.0
