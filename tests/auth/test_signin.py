from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.errors import AccessError, ProtocolError, SettingsError, SourceUnavailableError, TryAgainError
from cfaudit_sandbox.oauth.dash import OAuthKnobs
from cfaudit_sandbox.oauth.visitor import visit

if TYPE_CHECKING:
    from tests.core.auth.conftest import Scripted, Service


def accepted(service: Service, token: str) -> bool:
    reply = httpx2.get(service.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    return reply.status_code == 405  # past authentication, where only POST is served


def watched(urls: list[str], visitor: Callable[[str], object] = visit) -> Callable[[str], object]:
    def browse(url: str) -> object:
        urls.append(url)
        return visitor(url)

    return browse


def asked_for(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_person_signs_in_and_the_grant_works_and_is_kept(service: Service) -> None:
    urls: list[str] = []
    grant = service.sign_in(visitor=watched(urls))
    assert service.kept() == grant
    assert accepted(service, grant.access_token)
    assert (grant.issuer, grant.resource, grant.audience) == (service.sandbox.url, service.url, service.url)
    assert grant.expires_at == service.clock.now() + timedelta(hours=1)
    assert urls[0] in service.told[0]
    wish = asked_for(urls[0])
    assert (wish["resource"], wish["code_challenge_method"]) == (service.url, "S256")


def test_the_port_listens_before_the_browser_is_told(service: Service) -> None:
    def browse(url: str) -> object:
        redirect = urlsplit(asked_for(url)["redirect_uri"])
        socket.create_connection((redirect.hostname or "", redirect.port or 0), 1).close()
        return visit(url)

    service.sign_in(visitor=browse)


@pytest.mark.parametrize(
    "visitor", [partial(visit, decision="deny"), lambda _url: None], ids=["the person refuses", "no one comes"]
)
def test_a_server_that_never_sends_the_browser_back_is_waited_for_in_vain_and_that_is_said(
    service: Service, visitor: Callable[[str], object]
) -> None:
    with pytest.raises(AccessError, match="may have shown an error there; run: cfaudit-export login"):
        service.sign_in(visitor=visitor, limit_seconds=0.05)
    assert service.told[-1] == "waited 0 s"
    assert service.store.find(service.url, "default") is None


def test_an_answer_to_another_attempt_does_not_count_and_does_not_disturb(service: Service) -> None:
    def browse(url: str) -> object:
        httpx2.get(asked_for(url)["redirect_uri"] + "?code=a%3Ab%3Ac&state=forged", trust_env=False)
        return visit(url)

    assert accepted(service, service.sign_in(visitor=browse).access_token)


def test_a_refusal_that_does_come_back_is_told(service: Service) -> None:
    def browse(url: str) -> object:
        wish = asked_for(url)
        query = f"?error=access_denied&error_description=Not%20you&state={wish['state']}"
        return httpx2.get(wish["redirect_uri"] + query, trust_env=False)

    with pytest.raises(AccessError, match=r"'Not you' \(access_denied\)"):
        service.sign_in(visitor=browse)


def pasting(service: Service, lines: Callable[[str], list[str]], **options: Any) -> Any:
    """Sign in without a browser; `lines` makes what is pasted from the URL that was shown."""
    told, answers = service.told, list[str]()

    def ask(_prompt: str) -> str:
        if not answers:
            answers.extend(lines(told[0].splitlines()[-1]))
        return answers.pop(0)

    return sign_in(
        SignIn(server_url=service.url, **options), service.store, clock=service.clock.now, tell=told.append, ask=ask
    )


def test_without_a_browser_the_redirect_is_pasted(service: Service) -> None:
    grant = pasting(service, lambda url: ["", "http://127.0.0.1/?state=x", f"  {visit(url, arrive=False)}\n"])
    assert accepted(service, grant.access_token)
    assert [line for line in service.told if "not the URL to paste" in line] == service.told[2:4]


def test_three_wrong_pastes_end_the_attempt(service: Service) -> None:
    with pytest.raises(AccessError, match="no usable answer"):
        pasting(service, lambda _url: ["nonsense"] * 3)


def test_a_closed_input_ends_the_attempt(service: Service) -> None:
    def ask(_prompt: str) -> str:
        raise EOFError

    with pytest.raises(AccessError, match="no usable answer"):
        sign_in(
            SignIn(server_url=service.url),
            service.store,
            clock=service.clock.now,
            tell=service.told.append,
            ask=ask,
        )


def test_with_neither_browser_nor_terminal_nobody_is_waited_for(service: Service) -> None:
    with pytest.raises(AccessError, match="needs a person"):
        sign_in(SignIn(server_url=service.url), service.store, clock=service.clock.now, tell=service.told.append)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_client_that_was_registered_before_signs_in_with_its_secret(service: Service, method: str) -> None:
    body = {"redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": method}
    client = httpx2.post(f"{service.sandbox.url}/register", json=body, trust_env=False).json()
    grant = service.sign_in(client_id=client["client_id"], client_secret=client["client_secret"])
    assert (grant.client.id, grant.client.registered_at) == (client["client_id"], None)
    assert accepted(service, grant.access_token)
    assert len(service.oauth.memory.clients) == 1


def test_a_wrong_client_secret_is_told(service: Service) -> None:
    body = {"redirect_uris": ["http://127.0.0.1/callback"]}
    client = httpx2.post(f"{service.sandbox.url}/register", json=body, trust_env=False).json()
    with pytest.raises(AccessError, match=r"'Client authentication failed: invalid client_secret' \(invalid_client\)"):
        service.sign_in(client_id=client["client_id"], client_secret="wrong-secret")


def test_a_client_id_metadata_document_signs_in_where_it_is_taken(service: Service) -> None:
    service.oauth.turn(OAuthKnobs(client_id_documents=True))
    grant = service.sign_in(client_id="https://tools.example/client.json")
    assert accepted(service, grant.access_token)
    assert service.oauth.memory.clients == {}


def test_a_server_that_names_itself_is_checked(service: Service) -> None:
    service.oauth.turn(OAuthKnobs(names_itself=True))
    assert accepted(service, service.sign_in().access_token)


def test_a_server_with_openid_metadata_is_enough(service: Service) -> None:
    service.oauth.turn(OAuthKnobs(openid_only=True))
    assert accepted(service, service.sign_in().access_token)


def test_signing_in_again_uses_the_registration_and_its_port_again_and_ends_the_old_grant(service: Service) -> None:
    first, second = service.sign_in(), service.sign_in()
    assert first.client == second.client
    assert not accepted(service, first.access_token)
    assert accepted(service, second.access_token)
    assert service.kept() == second


def test_a_port_that_is_taken_meanwhile_does_not_matter(service: Service) -> None:
    first = service.sign_in()
    with socket.create_server(("127.0.0.1", urlsplit(first.client.redirect_uri).port or 0)):
        assert service.sign_in().client == first.client


def test_a_port_that_was_asked_for_and_is_taken_is_a_wrong_setting(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"redirect_port {port}"):
            service.sign_in(redirect_port=port)


def test_a_registration_that_would_end_before_the_grant_is_renewed_and_the_old_grant_revoked(service: Service) -> None:
    first = service.sign_in()
    service.clock.advance(days=25)
    service.sign_in()
    service.clock.advance(days=36)
    third = service.sign_in()
    assert third.client.id != first.client.id
    assert len(service.oauth.memory.grants) == 1


def test_a_registration_that_the_server_lost_is_found_out_and_made_again(service: Service) -> None:
    service.sign_in()
    service.oauth.forget_clients()
    with pytest.raises(AccessError):
        service.sign_in(limit_seconds=0.05)
    service.told.clear()
    assert accepted(service, service.sign_in().access_token)
    assert "seems to have forgotten this program" in service.told[0]


def test_two_profiles_do_not_disturb_each_other(service: Service) -> None:
    one, other = service.sign_in(), service.sign_in(profile="other")
    assert accepted(service, one.access_token)
    assert accepted(service, other.access_token)
    assert service.store.find(service.url, "other") == other


def test_a_sign_in_that_cannot_be_read_is_replaced(service: Service) -> None:
    service.store.add(replace(service.sign_in(), issuer="https://old.example"))
    for path in (service.state_dir / "grants").glob("*.json"):
        path.write_text("{")
    grant = service.sign_in()
    assert accepted(service, grant.access_token)
    assert service.kept() == grant
    assert any("the earlier sign-in is replaced" in line for line in service.told)


@pytest.mark.parametrize(
    ("days", "issuer", "left"),
    [(None, None, None), (12.0, None, 12), (None, "https://auditlogs.mcp.cloudflare.com", 30)],
)
def test_the_end_of_the_grant_is_what_is_told_or_known_of_cloudflare(
    service: Service, days: float | None, issuer: str | None, left: int | None
) -> None:
    from cfaudit_export.auth.discovery import discover
    from cfaudit_export.auth.signin import _grant_end
    from cfaudit_export.auth.web import open_http

    with open_http() as http:
        server = discover(http, service.url)
    options = SignIn(server_url=service.url, grant_days=days)
    end = _grant_end(options, replace(server, issuer=issuer or server.issuer), None, service.clock.now())
    assert end == (None if left is None else service.clock.now() + timedelta(days=left))


def answering(server: Scripted, tokens: object, status: int = 200) -> Callable[[str], object]:
    """Make a browser that comes back with a code at once, and a token endpoint that answers so."""
    server.page("POST /register", {"client_id": "abc"}, 201)
    server.describe(registration_endpoint="{url}/register", token_endpoint_auth_methods_supported=["none"])
    server.page("POST /token", tokens, status)

    def browse(url: str) -> object:
        wish = asked_for(url)
        return httpx2.get(f"{wish['redirect_uri']}?code=c-1&state={wish['state']}", trust_env=False)

    return browse


TOKENS = {"access_token": "a-1", "token_type": "Bearer", "expires_in": 60, "refresh_token": "r-1"}


def test_the_code_is_exchanged_with_verifier_redirect_and_resource(server: Scripted, service: Service) -> None:
    service.sign_in(server_url=f"{server.url}/mcp", visitor=answering(server, TOKENS))
    form = parse_qs(server.asked[-1][2].decode())
    assert form["grant_type"] == ["authorization_code"]
    assert (form["code"], form["client_id"], form["resource"]) == (["c-1"], ["abc"], [f"{server.url}/mcp"])
    assert form["redirect_uri"][0].startswith("http://127.0.0.1:")
    assert len(form["code_verifier"][0]) >= 43


def test_a_server_that_says_how_long_the_grant_lasts_is_believed(server: Scripted, service: Service) -> None:
    tokens = TOKENS | {"refresh_token_expires_in": 86_400, "expires_in": "60"}
    grant = service.sign_in(server_url=f"{server.url}/mcp", visitor=answering(server, tokens))
    assert grant.grant_expires_at == service.clock.now() + timedelta(days=1)
    assert grant.expires_at == service.clock.now() + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        ({"error": "invalid_grant", "error_description": "Invalid PKCE code_verifier"}, 400, AccessError),
        ({"error": "invalid_target"}, 400, AccessError),
        ({"error": "server_error"}, 500, SourceUnavailableError),
        ({"error": "temporarily_unavailable"}, 503, SourceUnavailableError),
        (b"<html>", 200, SourceUnavailableError),
        (b"<html>", 403, ProtocolError),
        ({}, 200, ProtocolError),
        (TOKENS | {"access_token": None}, 200, ProtocolError),
        (TOKENS | {"access_token": "a\nb"}, 200, ProtocolError),
        (TOKENS | {"token_type": "mac"}, 200, ProtocolError),
        (TOKENS | {"refresh_token": 7}, 200, ProtocolError),
    ],
)
def test_a_code_that_gives_no_tokens_leaves_no_grant(
    server: Scripted, service: Service, answer: object, status: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        service.sign_in(server_url=f"{server.url}/mcp", visitor=answering(server, answer, status))
    assert service.store.find(f"{server.url}/mcp", "default") is None


def test_nobody_refreshes_the_old_grant_while_the_new_one_is_fetched(service: Service) -> None:
    held: list[bool] = []

    def clock() -> datetime:
        """Be asked for the time after the code was exchanged, and look whether others are kept out."""
        try:
            with GrantStore(service.state_dir).hold(service.url, "default", wait_seconds=0):
                held.append(False)
        except TryAgainError:
            held.append(True)
        return service.clock.now()

    options = SignIn(server_url=service.url, limit_seconds=20)
    sign_in(options, service.store, clock=clock, tell=service.told.append, open_browser=visit)
    assert held[-1]


def test_an_issuer_that_changed_gets_its_own_registration_and_the_old_grant_goes(
    server: Scripted, service: Service
) -> None:
    old = replace(service.sign_in(), resource=f"{server.url}/mcp")
    service.store.add(old)
    grant = service.sign_in(server_url=f"{server.url}/mcp", visitor=answering(server, TOKENS))
    assert (grant.issuer, grant.client.id) == (server.url, "abc")
    assert not accepted(service, old.access_token)
    service.store.remove(grant)
    assert service.store.find(f"{server.url}/mcp", "default") is None


def test_headers_for_a_gateway_go_along_to_it(server: Scripted, service: Service) -> None:
    visitor = answering(server, TOKENS)
    service.sign_in(server_url=f"{server.url}/mcp", headers={"X-Api-Key": "gateway-key"}, visitor=visitor)
    assert server.asked[0][1]["x-api-key"] == "gateway-key"
