"""Discovery, registration, consent and callback, as they were observed on the real server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.dash import OAuthKnobs
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit

END = datetime(2026, 11, 20, tzinfo=UTC)
REDIRECT = "http://127.0.0.1:33418/callback"
SCOPE = "user:read offline_access account:read auditlogs:read"


@dataclass
class Site:
    oauth: OAuth
    http: httpx2.Client
    url: str

    def register(self, **changes: Any) -> httpx2.Response:
        body = {"redirect_uris": [REDIRECT], "client_name": "Probe CLI", "token_endpoint_auth_method": "none"}
        return self.http.post("/register", json=body | changes)

    def wish(self, **changes: Any) -> dict[str, str]:
        client = changes.pop("client_id", None) or self.register().json()["client_id"]
        wish = {"response_type": "code", "client_id": client, "redirect_uri": REDIRECT, "state": "s-1"}
        return {name: value for name, value in (wish | changes).items() if value is not None}

    def authorize(self, **changes: Any) -> httpx2.Response:
        return self.http.get("/oauth/authorize", params=self.wish(**changes))

    def authorize_url(self, **changes: Any) -> str:
        return f"{self.url}/oauth/authorize?{httpx2.QueryParams(self.wish(**changes))}"

    def post(self, path: str, form: dict[str, str], cookie: str = "") -> httpx2.Response:
        return self.http.post(path, data=form, headers={"Cookie": cookie})


class Clock:
    now = END.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Sandbox, Clock]]:
    clock = Clock()
    with Sandbox(World(SandboxOptions(events=10, end_at=END), clock)) as sandbox:
        yield sandbox, clock


@pytest.fixture
def clock(running: tuple[Sandbox, Clock]) -> Clock:
    _sandbox, clock = running
    clock.now = END.timestamp()
    return clock


@pytest.fixture
def site(running: tuple[Sandbox, Clock], clock: Clock) -> Iterator[Site]:
    """Put another OAuth server behind the one socket."""
    sandbox, _clock = running
    oauth = sandbox.app.authorization = OAuth(sandbox.world)
    with httpx2.Client(base_url=sandbox.url, timeout=10, verify=False, trust_env=False) as http:
        yield Site(oauth, http, sandbox.url)


def said(response: httpx2.Response) -> tuple[int, str, str]:
    body = response.json()
    return response.status_code, body["error"], body["error_description"]


def cookies_of(response: httpx2.Response) -> dict[str, str]:
    lines = response.headers.get_list("set-cookie")
    return {line.partition("=")[0]: line.partition("=")[2].partition(";")[0] for line in lines}


def fields_of(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))


def consented(site: Site) -> tuple[str, str]:
    """Go as far as the dashboard; return the state it is to give back, and the cookies of the browser."""
    page = site.authorize()
    fields, cookies = fields_of(page.text), cookies_of(page)
    answer = site.post("/oauth/authorize", fields, f"__Host-CSRF_TOKEN={cookies['__Host-CSRF_TOKEN']}")
    cookies |= cookies_of(answer)
    state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
    return state, "; ".join(f"{name}={value}" for name, value in cookies.items())


def test_the_server_describes_itself(site: Site) -> None:
    assert site.http.get("/.well-known/oauth-authorization-server").json() == {
        "issuer": site.url,
        "authorization_endpoint": f"{site.url}/oauth/authorize",
        "token_endpoint": f"{site.url}/token",
        "registration_endpoint": f"{site.url}/register",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint": f"{site.url}/token",
        "code_challenge_methods_supported": ["plain", "S256"],
        "client_id_metadata_document_supported": False,
    }


@pytest.mark.parametrize("suffix", ["", "/mcp", "/sse", "/what/ever"])
def test_every_path_is_a_resource(site: Site, suffix: str) -> None:
    assert site.http.get(f"/.well-known/oauth-protected-resource{suffix}").json() == {
        "resource": site.url + suffix,
        "authorization_servers": [site.url],
        "bearer_methods_supported": ["header"],
    }


@pytest.mark.parametrize(
    "path", ["/.well-known/oauth-authorization-server/mcp", "/.well-known/openid-configuration", "/register/x", "/"]
)
def test_other_paths_are_not_found(site: Site, path: str) -> None:
    response = site.http.get(path)
    assert (response.status_code, response.text) == (404, "404 Not Found")


def test_with_an_api_token_even_the_metadata_is_not_found(site: Site, running: tuple[Sandbox, Clock]) -> None:
    token = running[0].world.tokens["user"]
    response = site.http.get("/.well-known/oauth-authorization-server", headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.text) == (404, "Not Found")


def test_a_public_client_gets_an_id(site: Site, clock: Clock) -> None:
    response = site.register(application_type="native", scope="x")
    body = response.json()
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    assert re.fullmatch(r"[A-Za-z0-9_-]{16}", body["client_id"])
    assert body == {
        "client_id": body["client_id"],
        "redirect_uris": [REDIRECT],
        "client_name": "Probe CLI",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "registration_client_uri": f"/register/{body['client_id']}",
        "client_id_issued_at": int(clock.now),
    }


def test_by_default_a_client_gets_a_secret_for_90_days(site: Site, clock: Clock) -> None:
    body = site.http.post("/register", json={"redirect_uris": [REDIRECT]}).json()
    assert body["token_endpoint_auth_method"] == "client_secret_basic"
    assert len(body["client_secret"]) == 32
    assert body["client_secret_expires_at"] - body["client_secret_issued_at"] == 7_776_000


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"redirect_uris": []}, "At least one redirect URI is required"),
        ({"redirect_uris": None}, "Field must be an array"),
        ({"client_name": 5}, "Invalid client_name: expected string, got number"),
        ({"contacts": {}}, "Field must be an array"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "Invalid redirect URI"),
        ({"redirect_uris": ["data:text/html,x"]}, "Invalid redirect URI"),
        ({"redirect_uris": [7]}, "Invalid redirect URI"),
        ({"logo_uri": "ftp://x/logo"}, "Invalid logo_uri: must be an absolute http: or https: URL"),
    ],
)
def test_bad_client_metadata_is_refused(site: Site, changes: dict[str, Any], problem: str) -> None:
    assert said(site.register(**changes)) == (400, "invalid_client_metadata", problem)


def test_custom_schemes_are_fine(site: Site) -> None:
    assert site.register(redirect_uris=["cfaudit://callback"]).status_code == 201


@pytest.mark.parametrize("body", [[], "x", 5])
def test_a_registration_that_is_no_object_lacks_its_redirects(site: Site, body: object) -> None:
    problem = "At least one redirect URI is required"
    assert said(site.http.post("/register", json=body)) == (400, "invalid_client_metadata", problem)


def test_a_registration_is_echoed_as_far_as_it_is_known(site: Site) -> None:
    links = {"logo_uri": "https://x/logo", "client_uri": "https://x", "contacts": ["a\ud800"]}
    sent = json.dumps({"redirect_uris": [REDIRECT], "software_id": "z"} | links)
    body = site.http.post("/register", content=sent).json()
    assert links.items() <= body.items()
    assert not {"client_name", "software_id"} & body.keys()


def test_a_registration_of_more_than_a_mebibyte_is_refused(site: Site) -> None:
    problem = "Request payload too large, must be under 1 MiB"
    assert said(site.register(client_name="x" * 1_048_576)) == (413, "invalid_request", problem)


@pytest.mark.parametrize("path", ["/register", "/token", "/.well-known/oauth-authorization-server"])
def test_a_preflight_is_answered_by_the_library(site: Site, path: str) -> None:
    response = site.http.options(path, headers={"Origin": "https://page.example"})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "https://page.example"
    assert "access-control-allow-origin" not in site.http.options(path).headers


def test_registration_wants_a_post_of_json(site: Site) -> None:
    assert said(site.http.post("/register", content=b"{")) == (400, "invalid_request", "Invalid JSON payload")
    assert said(site.http.get("/register")) == (405, "invalid_request", "Method not allowed")


def test_the_consent_page_is_a_form_with_a_token_that_a_cookie_repeats(site: Site) -> None:
    page = site.authorize(resource=f"{site.url}/mcp", code_challenge="c", code_challenge_method="S256", scope="x")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert page.headers["x-frame-options"] == "DENY"
    (cookie,) = page.headers.get_list("set-cookie")
    token = fields_of(page.text)["csrf_token"]
    assert cookie == f"__Host-CSRF_TOKEN={token}; HttpOnly; Secure; Path=/; SameSite=Lax; Max-Age=600"
    assert json.loads(base64.b64decode(fields_of(page.text)["state"]))["oauthReqInfo"] | {"clientId": ""} == {
        "responseType": "code",
        "clientId": "",
        "redirectUri": REDIRECT,
        "scope": SCOPE.split(),
        "state": "s-1",
        "codeChallenge": "c",
        "codeChallengeMethod": "S256",
        "resource": f"{site.url}/mcp",
    }


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><b>'])
def test_the_name_of_a_client_is_text_on_the_page(site: Site, name: str) -> None:
    client = site.register(client_name=name).json()["client_id"]
    assert name not in site.authorize(client_id=client).text


@pytest.mark.parametrize(
    ("registered", "asked", "allowed"),
    [
        (REDIRECT, "http://127.0.0.1:1/callback", True),
        ("http://localhost/callback", "http://localhost:99/callback", True),
        ("http://[::1]:5/callback", "http://[::1]:6/callback", True),
        (REDIRECT, "http://localhost:33418/callback", False),
        (REDIRECT, "https://127.0.0.1:33418/callback", False),
        (REDIRECT, "http://127.0.0.1:33418/callback/", False),
        (REDIRECT, "http://127.0.0.1:33418/callback?x=1", False),
        ("https://app.example/callback", "https://app.example:444/callback", False),
        ("https://app.example/callback", "https://app.example/callback", True),
    ],
)
def test_a_loopback_redirect_may_use_any_port(site: Site, *, registered: str, asked: str, allowed: bool) -> None:
    client = site.register(redirect_uris=[registered]).json()["client_id"]
    assert (site.authorize(client_id=client, redirect_uri=asked).status_code == 200) is allowed


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "unknown"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/"},
        {"resource": "not a url"},
        {"resource": "https://host/mcp#fragment"},
        {"response_type": "token"},
    ],
)
def test_what_cannot_be_asked_about_is_an_error_page_and_never_a_redirect(site: Site, changes: dict[str, Any]) -> None:
    assert said(site.authorize(**changes)) == (500, "server_error", "Internal Error")


def test_an_expired_client_is_unknown(site: Site, clock: Clock) -> None:
    client = site.register().json()["client_id"]
    clock.now += 90 * 86_400
    assert site.authorize(client_id=client).status_code == 500


def test_a_missing_client_id_is_an_error_page_and_a_missing_response_type_is_none(site: Site) -> None:
    response = site.http.get("/oauth/authorize", params={"response_type": "code"})
    assert said(response) == (500, "server_error", "Internal Error")
    assert "<form" in site.authorize(response_type=None).text


def test_the_consent_form_must_come_from_our_page(site: Site) -> None:
    page = site.authorize()
    fields, cookie = fields_of(page.text), f"__Host-CSRF_TOKEN={cookies_of(page)['__Host-CSRF_TOKEN']}"
    without_state = {"csrf_token": fields["csrf_token"]}
    refused = (403, "access_denied", "Request validation failed")
    assert said(site.post("/oauth/authorize", fields)) == refused
    assert said(site.post("/oauth/authorize", fields, "__Host-CSRF_TOKEN=other")) == refused
    assert said(site.post("/oauth/authorize", {"state": fields["state"]}, cookie))[2] == "Missing required form token"
    assert said(site.post("/oauth/authorize", without_state, cookie))[2] == "Missing state in form data"


def test_consent_leads_to_the_dashboard_with_two_cookies(site: Site) -> None:
    page = site.authorize()
    token = cookies_of(page)["__Host-CSRF_TOKEN"]
    answer = site.post("/oauth/authorize", fields_of(page.text), f"__Host-CSRF_TOKEN={token}")
    target = urlsplit(answer.headers["location"])
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    assert (answer.status_code, target.path) == (302, "/dash/oauth2/auth")
    assert (query["redirect_uri"], query["scope"]) == (f"{site.url}/oauth/callback", SCOPE)
    assert list(json.loads(base64.b64decode(query["state"]))) == ["state"]
    lines = answer.headers.get_list("set-cookie")
    assert [re.sub(r"=[^;]*", "", line, count=1) for line in lines] == [
        "__Host-MCP_APPROVED_CLIENTS; HttpOnly; Secure; Path=/; SameSite=Lax; Max-Age=31536000",
        "__Host-CONSENTED_STATE; HttpOnly; Secure; Path=/; SameSite=Lax; Max-Age=600",
    ]


def test_a_client_that_was_approved_is_not_asked_about_again(site: Site) -> None:
    _state, cookies = consented(site)
    client = json.loads(base64.b64decode(re.search(r"CLIENTS=\w+\.([^;]*)", cookies)[1]))[0]  # type: ignore[index]  # a cookie without it fails the test
    again = site.http.get("/oauth/authorize", params=site.wish(client_id=client), headers={"Cookie": cookies})
    forged = re.sub(r"CLIENTS=\w+", "CLIENTS=00", cookies)
    asked = site.http.get("/oauth/authorize", params=site.wish(client_id=client), headers={"Cookie": forged})
    assert (again.status_code, asked.status_code) == (302, 200)


def test_the_whole_way_ends_at_the_redirect_with_a_code_and_the_state(site: Site) -> None:
    end = urlsplit(visit(site.authorize_url(), arrive=False))
    assert f"{end.scheme}://{end.netloc}{end.path}" == REDIRECT
    answer = parse_qs(end.query)
    assert list(answer) == ["code", "state"]
    assert re.fullmatch(r"[0-9a-f]{32}:[\w-]{16}:[\w-]{32}", answer["code"][0])
    assert "%3A" in end.query


def test_a_server_that_names_itself_does_so_in_the_redirect(site: Site) -> None:
    site.oauth.turn(OAuthKnobs(names_itself=True))
    end = urlsplit(visit(site.authorize_url(), arrive=False))
    assert parse_qs(end.query)["iss"] == [site.url]


def test_a_person_who_refuses_ends_on_a_page_of_json(site: Site) -> None:
    end = visit(site.authorize_url(), "deny")
    assert end.startswith(f"{site.url}/oauth/callback?")
    response = site.http.get(end)
    issues = json.loads(response.json()["error"]["message"])
    assert (response.status_code, response.json()["success"]) == (400, False)
    assert [issue["path"] for issue in issues] == [["code"], ["scope"]]


def test_the_callback_is_for_the_browser_that_consented(site: Site) -> None:
    state, cookies = consented(site)
    answer = {"code": "c", "state": state, "scope": SCOPE}
    assert said(site.http.get("/oauth/callback", params=answer)) == (
        400,
        "invalid_request",
        "Authorization session expired, please restart the flow",
    )
    other = {"Cookie": "__Host-CONSENTED_STATE=00"}
    assert said(site.http.get("/oauth/callback", params=answer, headers=other)) == (
        403,
        "access_denied",
        "Session validation failed",
    )
    assert said(site.http.get("/oauth/callback", params=answer, headers={"Cookie": cookies}))[0] == 403


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (400, (400, "invalid_request")),
        (429, (429, "temporarily_unavailable")),
        (500, (500, "server_error")),
        (503, (500, "server_error")),
    ],
)
def test_a_dashboard_that_gives_no_token_ends_the_sign_in(site: Site, status: int, answer: tuple[int, str]) -> None:
    state, cookies = consented(site)
    site.oauth.dash.fail_next(status)
    query = {"code": "c", "state": state, "scope": SCOPE}
    response = site.http.get("/oauth/callback", params=query, headers={"Cookie": cookies})
    assert said(response)[:2] == answer


def test_a_token_without_the_identity_scopes_ends_the_sign_in(site: Site) -> None:
    state, cookies = consented(site)
    site.oauth.turn(OAuthKnobs(probe_status=403))
    query = {"code": "c", "state": state, "scope": SCOPE}
    response = site.http.get("/oauth/callback", params=query, headers={"Cookie": cookies})
    assert said(response) == (403, "access_denied", "Token lacks required user:read or account:read scope")


def test_the_dashboard_sends_nobody_elsewhere(site: Site) -> None:
    form = {"redirect_uri": "https://evil.example/", "state": "x", "decision": "allow"}
    assert site.post("/dash/oauth2/auth", form).status_code == 400
