from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cfaudit_export.auth.web import first_object, open_http
from cfaudit_export.errors import ProtocolError, SourceUnavailableError

if TYPE_CHECKING:
    from tests.core.auth.conftest import Script, Scripted


def test_a_redirect_within_the_origin_is_followed(server: Scripted) -> None:
    server.page("GET /old", status=307, location="/new")
    server.page("GET /new", {"found": True})
    with open_http() as http:
        assert first_object(http, [f"{server.url}/old"], "it") == (f"{server.url}/old", {"found": True})


def test_a_redirect_to_another_origin_is_not_followed(server: Scripted, script: Script) -> None:
    other = script()
    other.page("GET /new", {"found": True})
    server.page("GET /old", status=302, location=f"{other.url}/new")
    with open_http() as http, pytest.raises(ProtocolError, match="redirects to another server"):
        first_object(http, [f"{server.url}/old"], "it")
    assert other.asked == []


@pytest.mark.parametrize("location", ["http://[::1", "javascript:alert(1)", "http://user@127.0.0.1/"])
def test_a_redirect_to_what_is_no_safe_url_is_refused(server: Scripted, location: str) -> None:
    server.page("GET /old", status=302, location=location)
    with open_http() as http, pytest.raises(ProtocolError, match="only https is allowed"):
        first_object(http, [f"{server.url}/old"], "it")


def test_a_redirect_that_goes_in_circles_ends(server: Scripted) -> None:
    server.page("GET /old", status=302, location="/old")
    with open_http() as http, pytest.raises(ProtocolError, match="more than 3 redirects"):
        first_object(http, [f"{server.url}/old"], "it")
    assert len(server.asked) == 4


def test_headers_go_to_the_home_origin_only(server: Scripted, script: Script) -> None:
    other = script()
    other.page("GET /", {})
    with open_http(f"{server.url}/mcp", {"X-Api-Key": "k-123"}) as http:
        first_object(http, [f"{server.url}/nothing", f"{other.url}/"], "it")
    assert server.asked[0][1]["x-api-key"] == "k-123"
    assert "x-api-key" not in other.asked[0][1]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff\xfe", b"", b"[" * 100_000])
def test_what_is_not_a_json_object_is_passed_over(server: Scripted, body: bytes) -> None:
    server.page("GET /page", body)
    with open_http() as http:
        assert first_object(http, [f"{server.url}/page"], "it") is None


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_that_cannot_answer_now_is_a_reason_to_try_again(server: Scripted, status: int) -> None:
    server.page("GET /page", {"error": "server_error", "error_description": "Internal \x1b[31mError"}, status)
    with open_http() as http, pytest.raises(SourceUnavailableError) as caught:
        first_object(http, [f"{server.url}/page"], "it")
    assert f"HTTP {status}: server_error: Internal \\x1b[31mError" in str(caught.value)


def test_a_server_that_is_not_there_is_a_reason_to_try_again() -> None:
    with open_http() as http, pytest.raises(SourceUnavailableError, match="cannot be reached"):
        first_object(http, ["http://127.0.0.1:1/"], "it")
