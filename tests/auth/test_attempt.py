from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from cfaudit_export.auth.attempt import Attempt, code_in
from cfaudit_export.auth.discovery import AuthorizationServer
from cfaudit_export.auth.registration import Client
from cfaudit_export.errors import AccessError

SERVER = AuthorizationServer(
    audience="https://mcp.example/mcp",
    issuer="https://as.example",
    authorization_endpoint="https://as.example/authorize?tenant=1",
    token_endpoint="https://as.example/token",
    registration_endpoint=None,
    revocation_endpoint=None,
    auth_methods=("none",),
    scope="audit:read offline_access",
    names_itself=False,
    client_id_documents=False,
)


def test_the_url_asks_for_a_code_with_s256_state_and_the_exact_resource() -> None:
    attempt = Attempt(server=SERVER)
    url = urlsplit(attempt.url(Client(id="me"), "http://127.0.0.1:1/callback"))
    digest = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).rstrip(b"=").decode()
    assert parse_qs(url.query) == {
        "tenant": ["1"],
        "response_type": ["code"],
        "client_id": ["me"],
        "redirect_uri": ["http://127.0.0.1:1/callback"],
        "scope": ["audit:read offline_access"],
        "state": [attempt.state],
        "resource": ["https://mcp.example/mcp"],
        "code_challenge": [digest],
        "code_challenge_method": ["S256"],
    }
    assert attempt.verifier not in url.query


def test_two_attempts_share_no_secret_and_show_none() -> None:
    one, other = Attempt(server=SERVER), Attempt(server=SERVER)
    assert not {one.state, one.verifier} & {other.state, other.verifier}
    assert 43 <= len(one.verifier) <= 128
    assert not any(secret in repr(one) for secret in (one.state, one.verifier))


@pytest.mark.parametrize("names_itself", [True, False])
@pytest.mark.parametrize("state", ["", "&state=wrong", "&state=%C3%A9"])
def test_an_answer_with_another_state_or_none_is_not_ours(*, names_itself: bool, state: str) -> None:
    attempt = Attempt(server=replace(SERVER, names_itself=names_itself))
    assert "state differs" in str(attempt.why_not(f"code=a&iss=https%3A%2F%2Fas.example{state}"))


@pytest.mark.parametrize(
    ("names_itself", "issuer", "ours"),
    [
        (False, "", True),
        (False, "&iss=https%3A%2F%2Fas.example", True),
        (False, "&iss=https%3A%2F%2Fevil.example", False),
        (True, "&iss=https%3A%2F%2Fas.example", True),
        (True, "&iss=https%3A%2F%2Fas.example%2F", False),
        (True, "", False),
    ],
)
def test_the_issuer_must_be_the_one_that_was_asked(*, names_itself: bool, issuer: str, ours: bool) -> None:
    attempt = Attempt(server=replace(SERVER, names_itself=names_itself))
    refusal = attempt.why_not(f"code=a&state={attempt.state}{issuer}")
    assert (refusal is None) is ours
    assert ours or "issuer differs" in str(refusal)


def test_an_answer_must_hold_a_code_or_an_error() -> None:
    attempt = Attempt(server=SERVER)
    assert "neither" in str(attempt.why_not(f"state={attempt.state}"))
    assert attempt.why_not(f"error=access_denied&state={attempt.state}") is None


def test_a_refusal_is_shown_in_the_servers_words_without_control_codes() -> None:
    assert code_in("code=a%3Ab%3Ac&state=s") == "a:b:c"
    with pytest.raises(AccessError) as caught:
        code_in("error=access_denied&error_description=no%1B%5B2J&state=s")
    assert "'no\\x1b[2J' (access_denied)" in str(caught.value)
