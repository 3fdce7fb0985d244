from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.auth.web import canonical, first_object, is_safe, open_http
from cfaudit_export.errors import ProtocolError, SourceUnavailableError

if TYPE_CHECKING:
    from tests.core.auth.conftest import Script, Scripted


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://auditlogs.mcp.cloudflare.com/mcp", True),
        ("http://127.0.0.1:8976/mcp", True),
        ("http://127.4.5.6/mcp", True),
        ("http://localhost:1/mcp", True),
        ("http://[::1]:8976/mcp", True),
        ("http://example.com/mcp", False),
        ("http://127.0.0.1.example.com/mcp", False),
        ("http://localhost.example.com/mcp", False),
        ("http://10.0.0.1/mcp", False),
        ("https://user:secret@example.com/mcp", False),
        ("https://example.com/mcp#fragment", False),
        ("https:///mcp", False),
        ("http://[::1", False),
        ("https://example.com:port/", False),
        ("ftp://example.com/", False),
        ("https://example.com/\x1b[2J", False),
        ("https://example.com/\u202e", False),
        ("", False),
    ],
)
def test_secrets_travel_by_https_or_stay_on_this_machine(*, url: str, safe: bool) -> None:
    assert is_safe(url) is safe


def test_plain_http_to_other_machines_has_to_be_asked_for() -> None:
    assert is_safe("http://gateway.internal/mcp", insecure_http=True)
    assert not is_safe("ftp://gateway.internal/mcp", insecure_http=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTPS://Example.COM/mcp", "https://example.com/mcp"),
        ("https://example.com:443/mcp", "https://example.com/mcp"),
        ("http://127.0.0.1:80", "http://127.0.0.1/"),
        ("https://example.com/mcp#top", "https://example.com/mcp"),
    ],
)
def test_two_spellings_of_a_url_have_one_canonical_form(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    "other", ["https://example.com/mcp/", "https://example.com/MCP", "https://example.com:8443/mcp"]
)
def test_urls_that_differ_for_a_server_differ_in_canonical_form(other: str) -> None:
    assert canonical(other) != canonical("https://example.com/mcp")


@given(st.sampled_from(["http", "HTTPS"]), st.from_regex(r"[A-Za-z0-9.-]{1,20}", fullmatch=True), st.text(max_size=20))
def test_the_canonical_form_is_its_own_canonical_form(scheme: str, host: str, path: str) -> None:
    try:
        once = canonical(f"{scheme}://{host}/{path}")
    except ValueError:
        return  # not a URL
    assert canonical(once) == once


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
    with open_http() as http, pytest.raises(ProtocolError, match="not a safe https URL"):
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
