from __future__ import annotations

import socket
import struct
import threading
import time
from urllib.parse import urlsplit

import httpx2
import pytest

from cfaudit_export.auth.loopback import Loopback


def accept(query: str) -> str | None:
    return None if "state=right" in query else "It belongs to <another> sign-in."


def get(url: str, method: str = "GET") -> httpx2.Response:
    return httpx2.request(method, url, trust_env=False, timeout=5)


def test_the_redirect_is_a_port_of_127_0_0_1_that_listens_at_once() -> None:
    with Loopback(accept) as loopback:
        parts = urlsplit(loopback.redirect_uri)
        assert (parts.scheme, parts.hostname, parts.path) == ("http", "127.0.0.1", "/callback")
        socket.create_connection(("127.0.0.1", parts.port or 0), 1).close()


def test_the_answer_is_taken_and_the_person_told_to_close_the_window() -> None:
    with Loopback(accept) as loopback:
        page = get(f"{loopback.redirect_uri}?code=a%3Ab&state=right")
        assert loopback.wait(1) == "code=a%3Ab&state=right"
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "You can close this window" in page.text
    assert "code" not in page.text.lower().replace("encode", "")


def test_the_page_loads_nothing_and_is_kept_nowhere() -> None:
    with Loopback(accept) as loopback:
        page = get(f"{loopback.redirect_uri}?code=a&state=right")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert (page.headers["cache-control"], page.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert not any(word in page.text for word in ("http:", "https:", "src=", "<script"))


def test_another_state_is_refused_and_the_right_one_still_taken() -> None:
    with Loopback(accept) as loopback:
        page = get(f"{loopback.redirect_uri}?code=x&state=wrong")
        assert page.status_code == 400
        assert "It belongs to &lt;another&gt; sign-in." in page.text
        assert loopback.wait(0) is None
        get(f"{loopback.redirect_uri}?code=a&state=right")
        assert loopback.wait(1) == "code=a&state=right"


def test_one_answer_is_enough() -> None:
    with Loopback(accept) as loopback:
        get(f"{loopback.redirect_uri}?code=first&state=right")
        assert get(f"{loopback.redirect_uri}?code=second&state=right").status_code == 410
        assert loopback.wait(1) == "code=first&state=right"
        assert loopback.wait(0) is None


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/callback/", "/callbackx?code=a&state=right"])
def test_other_paths_are_not_found(path: str) -> None:
    with Loopback(accept) as loopback:
        assert get(loopback.redirect_uri.removesuffix("/callback") + path).status_code == 404
        assert loopback.wait(0) is None


def test_a_head_request_is_answered_and_is_not_the_answer() -> None:
    with Loopback(accept) as loopback:
        head = get(f"{loopback.redirect_uri}?code=a&state=right", "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert loopback.wait(0) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
def test_no_other_method_is_served(method: str) -> None:
    with Loopback(accept) as loopback:
        assert get(f"{loopback.redirect_uri}?code=a&state=right", method).status_code == 501
        assert loopback.wait(0) is None


def test_connections_that_stay_silent_hold_up_neither_the_answer_nor_the_end() -> None:
    began = time.monotonic()
    with Loopback(accept) as loopback:
        port = urlsplit(loopback.redirect_uri).port or 0
        silent = [socket.create_connection(("127.0.0.1", port), 1) for _ in range(3)]
        get(f"{loopback.redirect_uri}?code=a&state=right")
        assert loopback.wait(1) is not None
    assert time.monotonic() - began < 10
    for connection in silent:
        connection.close()


def test_nothing_that_was_asked_for_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with Loopback(accept) as loopback:
        get(f"{loopback.redirect_uri}?code=topsecret&state=right")
        parts = urlsplit(loopback.redirect_uri)
        with socket.create_connection(("127.0.0.1", parts.port or 0), 1) as connection:
            connection.sendall(b"GET /callback?code=topsecret\r\n\x00\r\n\r\n")
            connection.recv(100)
    assert capfd.readouterr() == ("", "")


def test_a_browser_that_breaks_off_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    with Loopback(accept) as loopback:
        before = set(threading.enumerate())
        address = ("127.0.0.1", urlsplit(loopback.redirect_uri).port or 0)
        with socket.create_connection(address, 1) as connection:
            connection.sendall(b"GET /callback?code=topsecret")
            while not (handlers := {one for one in set(threading.enumerate()) - before if one.is_alive()}):
                assert loopback.wait(0.01) is None
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for handler in handlers:
            handler.join(5)
    assert capfd.readouterr() == ("", "")


def test_the_port_is_free_again_afterwards() -> None:
    before = set(threading.enumerate())
    with Loopback(accept) as loopback:
        port = urlsplit(loopback.redirect_uri).port or 0
        with pytest.raises(OSError, match="in use"):
            Loopback(accept, port=port)
    with Loopback(accept, port=port) as again:
        assert urlsplit(again.redirect_uri).port == port
    assert not [thread for thread in set(threading.enumerate()) - before if "serve_forever" in thread.name]
