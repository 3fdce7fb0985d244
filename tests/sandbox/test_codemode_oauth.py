"""The OAuth half of the late code-mode servers: its own issuer, its scopes, and one refresh at a time."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.sources.codemode.frame import read_frame
from cfaudit_export.sources.codemode.snippet import Parameters, write_code
from cfaudit_sandbox.oauth.dash import OAuthKnobs
from cfaudit_sandbox.oauth.visitor import visit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.core.sandbox.conftest import Connect, Wire

PATH = "/codemode/mcp"
REDIRECT = "http://127.0.0.1:33418/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
READING = "user:read account:read account-settings.read"


def authorize_url(wire: Wire, client: str, **changes: str) -> str:
    wish = {"response_type": "code", "client_id": client, "redirect_uri": REDIRECT, "scope": READING}
    wish |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256", "resource": wire.sandbox.url + PATH}
    return f"{wire.sandbox.url}/codemode/authorize?{httpx2.QueryParams(wish | changes)}"


def registered(wire: Wire) -> str:
    body = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}
    client: str = wire.http.post(f"{wire.sandbox.url}/codemode/register", json=body).json()["client_id"]
    return client


def token(wire: Wire, client: str, **form: str) -> httpx2.Response:
    return wire.http.post(f"{wire.sandbox.url}/codemode/token", data={"client_id": client} | form)


def signed_in(wire: Wire, **changes: str) -> tuple[dict[str, Any], str]:
    client = registered(wire)
    end = visit(authorize_url(wire, client, **changes), arrive=False)
    code = parse_qs(urlsplit(end).query)["code"][0]
    tokens = token(wire, client, grant_type="authorization_code", code=code, code_verifier=VERIFIER).json()
    return tokens, client


def status_of_a_page(wire: Wire) -> int | None:
    query = (("since", "2026-10-01"), ("before", "2026-11-21"))
    code = write_code(Parameters(wire.world.accounts[0].id, query, pages=1, most=10**6))
    reply = wire.legacy("tools/call", {"name": "execute", "arguments": {"code": code}}, path=PATH)
    return read_frame(reply.json()["result"]["content"][0]["text"]).header.status


def test_its_metadata_stands_beside_its_own_issuer(connect: Connect) -> None:
    wire = connect(events=1)
    url = wire.sandbox.url
    resource = wire.http.get(f"{url}/.well-known/oauth-protected-resource{PATH}").json()
    assert (resource["resource"], resource["authorization_servers"]) == (url + PATH, [f"{url}/codemode"])
    server = wire.http.get(f"{url}/.well-known/oauth-authorization-server/codemode").json()
    assert server["issuer"] == f"{url}/codemode"
    assert server["authorization_endpoint"] == f"{url}/codemode/authorize"
    assert server["code_challenge_methods_supported"] == ["S256"]
    assert "account-settings.read" in server["scopes_supported"]


def test_the_first_generation_has_no_such_metadata(connect: Connect) -> None:
    wire = connect(events=1, codemode_generation="G0")
    for path in (f"/.well-known/oauth-protected-resource{PATH}", "/codemode/token"):
        assert wire.http.get(wire.sandbox.url + path).status_code == 404


def test_a_sign_in_by_the_program_is_bound_to_it(connect: Connect, tmp_path: Path) -> None:
    wire = connect(events=1)
    options = SignIn(server_url=wire.sandbox.codemode_url, scope=READING, limit_seconds=60)
    grant = sign_in(
        options,
        GrantStore(tmp_path),
        clock=lambda: datetime.now(UTC),
        tell=lambda _line: None,
        open_browser=visit,
    )
    assert (grant.issuer, grant.audience) == (f"{wire.sandbox.url}/codemode", wire.sandbox.codemode_url)
    wire.token = grant.access_token
    assert status_of_a_page(wire) == 200
    batch = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in (1, 2)]
    assert [answer["id"] for answer in wire.post(batch, path=PATH).json()] == [1, 2]


def test_without_the_scope_the_log_is_not_read(connect: Connect) -> None:
    wire = connect(events=1)
    tokens, _ = signed_in(wire, scope="user:read")
    assert tokens["scope"] == "user:read offline_access account:read"
    wire.token = tokens["access_token"]
    assert status_of_a_page(wire) == 403


def test_an_unknown_scope_is_refused_on_the_page_and_another_resource_by_redirect(connect: Connect) -> None:
    wire = connect(events=1)
    client = registered(wire)
    refused = wire.http.get(authorize_url(wire, client, scope="auditlogs:read"))
    assert (refused.status_code, refused.json()["error_description"]) == (400, "Unknown OAuth scope: auditlogs:read")
    refused = wire.http.get(authorize_url(wire, client, resource=wire.sandbox.mcp_url))
    assert "error=invalid_target" in refused.headers["location"]


def test_the_consent_page_comes_each_time(connect: Connect) -> None:
    wire = connect(events=1)
    url = authorize_url(wire, registered(wire))
    page = wire.http.get(url)
    form = dict(part.split('" value="') for part in page.text.replace('">', "\n").split('name="')[1:3])
    fields = {name: value.partition("\n")[0] for name, value in form.items()}
    csrf = page.headers["set-cookie"].partition(";")[0]
    sent = wire.http.post(f"{wire.sandbox.url}/codemode/authorize", data=fields, headers={"cookie": csrf})
    approved = "; ".join(line.partition(";")[0] for line in sent.headers.get_list("set-cookie"))
    assert sent.status_code == 302
    assert wire.http.get(url, headers={"cookie": approved}).status_code == 200


def test_one_refresh_of_a_grant_is_carried_out_at_a_time(connect: Connect) -> None:
    wire = connect(events=1)
    tokens, client = signed_in(wire)
    oauth = wire.sandbox.codemode.authorization
    oauth.turn(OAuthKnobs(dash_latency_seconds=0.5))
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _number: token(wire, client, **form), range(3)))
    assert sum(answer.status_code == 200 for answer in answers) >= 1
    for answer in answers:
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["error"]) == (429, "temporarily_unavailable")
            assert answer.headers["retry-after"] == "1"
    fresh = next(answer.json() for answer in answers if answer.status_code == 200)
    assert fresh["expires_in"] == 3600


@pytest.mark.parametrize("path", ["/codemode/mcp/x", "/codemode/register/x", "/codemode/"])
def test_nothing_else_is_there(connect: Connect, path: str) -> None:
    wire = connect(events=1)
    response = wire.http.get(wire.sandbox.url + path)
    assert (response.status_code, response.text) == (404, "Not Found")
