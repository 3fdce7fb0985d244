"""The generations of the Audit Logs server: what a client can tell them apart by."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit

if TYPE_CHECKING:
    import httpx2
    from tests.core.sandbox.conftest import Connect, Wire

REDIRECT = "http://127.0.0.1:33418/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
later = pytest.mark.parametrize("generation", ["0.20.9", "next"])


def start(connect: Connect, generation: str, **options: Any) -> Wire:
    wire = connect(events=20, auditlogs_generation=generation, **options)
    wire.sandbox.app.authorization = OAuth(wire.world)
    return wire


def register(wire: Wire, **changes: Any) -> httpx2.Response:
    body = {"redirect_uris": [REDIRECT], "client_name": "Probe", "token_endpoint_auth_method": "none"}
    return wire.http.post(f"{wire.sandbox.url}/register", json=body | changes)


def authorize_url(wire: Wire, **changes: str | None) -> str:
    import httpx2

    wish = {"response_type": "code", "redirect_uri": REDIRECT, "state": "s", **PKCE}
    wish |= {"client_id": changes.pop("client_id", None) or register(wire).json()["client_id"]} | changes
    query = httpx2.QueryParams({name: value for name, value in wish.items() if value is not None})
    return f"{wire.sandbox.url}/oauth/authorize?{query}"


def answer_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def tokens_of(wire: Wire, **changes: str) -> tuple[dict[str, Any], str]:
    """Sign in as a person does; return the tokens, and the client."""
    client = register(wire).json()["client_id"]
    code = answer_of(visit(authorize_url(wire, client_id=client, **changes), arrive=False))["code"]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": client}
    response = wire.http.post(f"{wire.sandbox.url}/token", data=form)
    assert response.status_code == 200, response.text
    tokens: dict[str, Any] = response.json()
    return tokens, client


def refresh(wire: Wire, token: str, client: str, **form: str) -> httpx2.Response:
    fields = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client} | form
    return wire.http.post(f"{wire.sandbox.url}/token", data=fields)


@later
def test_without_a_token_it_says_no_more_than_where_to_find_out(connect: Connect, generation: str) -> None:
    wire = start(connect, generation)
    response = wire.post({}, authorization="")
    assert (response.status_code, response.content) == (401, b"")
    metadata = f"{wire.sandbox.url}/.well-known/oauth-protected-resource/mcp"
    assert response.headers["www-authenticate"] == f'Bearer realm="OAuth", resource_metadata="{metadata}"'


@later
def test_an_api_token_is_looked_up_once(connect: Connect, generation: str) -> None:
    wire = start(connect, generation)
    for _ in range(3):
        assert wire.read()["result_info"]["count"] == 20
    assert [seen.cost for seen in wire.sandbox.requests.calls] == [3, 1, 1]
    assert wire.sandbox.upstream.counts["probes"] == 2


@later
def test_a_token_of_three_parts_that_is_no_grant_is_tried_upstream(connect: Connect, generation: str) -> None:
    wire = start(connect, generation)
    response = wire.legacy("ping", authorization="Bearer a:b:c")
    assert (response.status_code, response.json()["error"]) == (401, "invalid_token")
    assert wire.sandbox.upstream.counts["probes"] == 2


@later
def test_what_a_token_lacks_is_named(connect: Connect, generation: str) -> None:
    wire = start(connect, generation, token="forbidden")
    response = wire.legacy("ping")
    assert response.status_code == 403
    assert 'error="insufficient_scope", scope="user:read account:read"' in response.headers["www-authenticate"]


@later
def test_an_api_token_does_not_hide_the_other_paths(connect: Connect, generation: str) -> None:
    wire = start(connect, generation)
    response = wire.http.get(
        f"{wire.sandbox.url}/.well-known/oauth-authorization-server",
        headers={"authorization": f"Bearer {wire.token}"},
    )
    metadata = response.json()
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert ("protected_resources" in metadata) == (generation == "next")


@later
def test_registrations_are_checked_and_answered_with_less(connect: Connect, generation: str) -> None:
    wire = start(connect, generation)
    body = register(wire).json()
    assert "registration_client_uri" not in body
    assert body["grant_types"] == ["authorization_code"]
    for changes, problem in (
        ({"token_endpoint_auth_method": "private_key_jwt"}, "Client advertised: private_key_jwt"),
        ({"grant_types": ["client_credentials"]}, "Unsupported grant_type: client_credentials"),
        ({"response_types": ["token"]}, "Unsupported response_type: token"),
        ({"contacts": 5}, "Invalid contacts: expected array, got number"),
        ({"redirect_uris": []}, "redirect_uris is required and must not be empty"),
        ({"redirect_uris": ["http://[::1"]}, "Invalid redirect URI"),
    ):
        refused = register(wire, **changes)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client_metadata")
        assert refused.json()["error_description"].endswith(problem)
    assert wire.http.post(f"{wire.sandbox.url}/register", json=[]).status_code == 400
    for uri in ("cfaudit://callback", "http://elsewhere.example/callback"):
        assert register(wire, redirect_uris=[uri]).status_code == (400 if generation == "next" else 201)


@later
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"resource": "nowhere"}, "invalid_target"),
    ],
)
def test_a_request_that_is_refused_is_told_to_the_client(
    connect: Connect, generation: str, changes: dict[str, str | None], error: str
) -> None:
    wire = start(connect, generation)
    response = wire.http.get(authorize_url(wire, **changes))
    answer = answer_of(response.headers["location"])
    assert (answer["error"], answer["state"], answer["iss"]) == (error, "s", wire.sandbox.url)


@later
@pytest.mark.parametrize("changes", [{"client_id": "unknown"}, {"redirect_uri": "https://evil.example/"}])
def test_a_client_that_is_unknown_is_refused_on_the_page(
    connect: Connect, generation: str, changes: dict[str, str | None]
) -> None:
    response = (wire := start(connect, generation)).http.get(authorize_url(wire, **changes))
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


@later
def test_the_redirect_names_the_server(connect: Connect, generation: str) -> None:
    wire = start(connect, generation)
    answer = answer_of(visit(authorize_url(wire), arrive=False))
    assert list(answer) == ["code", "state", "iss"]
    assert answer["iss"] == wire.sandbox.url


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE", "OPTIONS"])
def test_the_next_generation_has_left_the_other_path(connect: Connect, verb: str) -> None:
    wire = start(connect, "next")
    response = wire.http.request(verb, f"{wire.sandbox.url}/sse", headers={"authorization": f"Bearer {wire.token}"})
    assert response.status_code == 410
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["link"] == f'<{wire.sandbox.mcp_url}>; rel="successor-version"'


def test_the_next_generation_knows_one_resource_and_binds_every_token_to_it(connect: Connect) -> None:
    wire = start(connect, "next")
    well_known = f"{wire.sandbox.url}/.well-known/oauth-protected-resource"
    assert wire.http.get(f"{well_known}/mcp").json()["resource"] == wire.sandbox.mcp_url
    assert [wire.http.get(well_known + suffix).status_code for suffix in ("", "/sse", "/mcp/")] == [404] * 3
    assert wire.http.get(authorize_url(wire, resource=wire.sandbox.url)).headers["location"].count("invalid_target")
    tokens, client = tokens_of(wire)
    assert tokens["resource"] == wire.sandbox.mcp_url
    wire.token = tokens["access_token"]
    assert wire.read()["result_info"]["count"] == 20
    refused = refresh(wire, tokens["refresh_token"], client, resource=wire.sandbox.url)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")


@pytest.mark.parametrize("decision", ["deny", "cancel"])
def test_the_next_generation_tells_the_client_that_the_person_refused(connect: Connect, decision: Any) -> None:
    wire = start(connect, "next")
    answer = answer_of(visit(authorize_url(wire), decision, arrive=False))
    assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "s", wire.sandbox.url)


@pytest.mark.parametrize(("generation", "survives"), [("today", True), ("0.20.9", True), ("next", False)])
def test_a_grant_that_dash_refuses_ends_in_the_next_generation(
    connect: Connect, generation: str, *, survives: bool
) -> None:
    wire = start(connect, generation)
    tokens, client = tokens_of(wire)
    wire.sandbox.app.authorization.fail_next(400)  # type: ignore[attr-defined]  # it is the one put in by `start`
    assert refresh(wire, tokens["refresh_token"], client).json()["error"] == "invalid_grant"
    assert (refresh(wire, tokens["refresh_token"], client).status_code == 200) == survives
