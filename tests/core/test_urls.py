"""Where secrets may travel, and which URLs are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.urls import canonical, check_secret_url, is_safe
from cfaudit_export.errors import SettingsError


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


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/v1?key=5ec2e7", "events would travel in clear text to 'http://example.com/v1'; use https"),
        ("https://me:5ec2e7@example.com/v1", "'https://example.com/v1' is not the URL of a server"),
        ("http://[5ec2e7", "'an unreadable URL' is not the URL of a server"),
    ],
)
def test_a_refused_url_is_named_without_what_may_be_secret(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_secret_url(url, "events", allow="sinks.s3.insecure_http = true")
    assert said in str(caught.value)
    assert "5ec2e7" not in str(caught.value)


def test_a_setting_allows_plain_http() -> None:
    check_secret_url("http://example.com/v1", "events", allow="a setting", insecure_http=True)
    check_secret_url("http://127.0.0.1/v1", "events", allow="a setting")
