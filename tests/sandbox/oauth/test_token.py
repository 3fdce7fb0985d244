"""The token endpoint, and what access tokens are good for, as observed on the real server."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
Refused = tuple[int, str, str]


@dataclass
class Site:
    oauth: OAuth
    http: httpx2.Client
    url: str
    client: dict[str, Any] = field(default_factory=dict)

    def register(self, method: str = "none") -> dict[str, Any]:
        body = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": method}
        client: dict[str, Any] = self.http.post("/register", json=body).json()
        return client

    def code(self, **changes: str) -> str:
        """Sign in as a person does, and return the code."""
        wish = {"response_type": "code", "client_id": self.client["client_id"], "redirect_uri": REDIRECT}
        wish |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256", "resource": f"{self.url}/mcp"} | changes
        query = httpx2.QueryParams({name: value for name, value in wish.items() if value})
        return parse_qs(urlsplit(visit(f"{self.url}/oauth/authorize?{query}", arrive=False)).query)["code"][0]

    def token(self, **form: str) -> httpx2.Response:
        fields = {"client_id": self.client["client_id"]} | form
        return self.http.post("/token", data={name: value for name, value in fields.items() if value})

    def exchange(self, code: str, **form: str) -> httpx2.Response:
        fields = {"code": code, "code_verifier": VERIFIER, "redirect_uri": REDIRECT} | form
        return self.token(grant_type="authorization_code", **fields)

    def sign_in(self, **changes: str) -> dict[str, Any]:
        tokens: dict[str, Any] = self.exchange(self.code(**changes)).json()
        return tokens

    def refresh(self, refresh_token: str, **form: str) -> httpx2.Response:
        return self.token(grant_type="refresh_token", refresh_token=refresh_token, **form)

    def use(self, token: str, path: str = "/mcp") -> httpx2.Response:
        return self.http.get(path, headers={"Authorization": f"Bearer {token}"})

    def works(self, token: str, path: str = "/mcp") -> bool:
        return self.use(token, path).status_code == 405  # past authentication, where only POST is served


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
        site = Site(oauth, http, sandbox.url)
        site.client = site.register()
        yield site


def said(response: httpx2.Response) -> Refused:
    body = response.json()
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    return response.status_code, body["error"], body["error_description"]


def grant(problem: str) -> Refused:
    return 400, "invalid_grant", problem


def test_a_code_gives_tokens_for_an_hour_whatever_dash_says(site: Site) -> None:
    site.oauth.turn(OAuthKnobs(dash_expires_in=120))
    response = site.exchange(site.code())
    tokens = response.json()
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    for name in ("access_token", "refresh_token"):
        assert re.fullmatch(r"[0-9a-f]{32}:[\w-]{16}:[\w-]{32}", tokens.pop(name))
    assert tokens == {"token_type": "bearer", "expires_in": 3600, "scope": SCOPE, "resource": f"{site.url}/mcp"}


def test_without_a_resource_none_is_echoed(site: Site) -> None:
    assert "resource" not in site.sign_in(resource="")
    assert site.exchange(site.code(resource=""), resource=site.url).json()["resource"] == site.url


def test_a_scope_narrows_what_is_reported(site: Site) -> None:
    assert site.exchange(site.code(), scope="auditlogs:read user:read").json()["scope"] == "user:read auditlogs:read"


def test_with_pkce_the_redirect_may_be_left_out(site: Site) -> None:
    assert site.exchange(site.code(), redirect_uri="").status_code == 200


def test_pkce_may_be_plain_or_absent(site: Site) -> None:
    assert site.exchange(site.code(code_challenge=VERIFIER, code_challenge_method="plain")).status_code == 200
    assert site.exchange(site.code(code_challenge="", code_challenge_method=""), code_verifier="").status_code == 200


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ({"code_verifier": "x" * 43}, grant("Invalid PKCE code_verifier")),
        ({"redirect_uri": "http://127.0.0.1:1/callback"}, grant("Invalid redirect URI")),
        ({"code": ""}, (400, "invalid_request", "Authorization code is required")),
        ({"code_verifier": ""}, (400, "invalid_request", "code_verifier is required for PKCE")),
        ({"code": "abc"}, grant("Invalid authorization code format")),
        ({"code": "a:b:c"}, grant("Grant not found or authorization code expired")),
    ],
)
def test_a_refused_exchange_leaves_the_code_as_it_was(site: Site, form: dict[str, str], answer: Refused) -> None:
    code = site.code()
    assert said(site.exchange(**({"code": code} | form))) == answer
    assert site.exchange(code).status_code == 200


def test_a_code_with_another_secret_is_invalid(site: Site) -> None:
    code = site.code()
    assert said(site.exchange(code[:-3] + "xxx")) == grant("Invalid authorization code")


def test_a_code_is_for_its_client(site: Site) -> None:
    code, other = site.code(), site.register()
    assert said(site.exchange(code, client_id=other["client_id"])) == grant("Client ID mismatch")


def test_a_code_lives_ten_minutes(site: Site, clock: Clock) -> None:
    code = site.code()
    clock.now += 600
    assert said(site.exchange(code)) == grant("Grant not found or authorization code expired")


def test_another_resource_than_the_authorized_one_spends_the_code(site: Site) -> None:
    code = site.code()
    problem = "Requested resource was not included in the authorization request"
    assert said(site.exchange(code, resource=f"{site.url}/mcp/")) == (400, "invalid_target", problem)
    assert said(site.exchange(code)) == grant("Authorization code already used")


def test_a_code_used_twice_ends_everything_it_gave(site: Site) -> None:
    code = site.code()
    tokens = site.exchange(code).json()
    assert site.works(tokens["access_token"])
    assert said(site.exchange(code)) == grant("Authorization code already used")
    assert not site.works(tokens["access_token"])
    assert said(site.refresh(tokens["refresh_token"])) == grant("Grant not found")


@pytest.mark.parametrize("dash_expires_in", [120, 57_600])
def test_a_refreshed_token_lives_as_long_as_dash_says(site: Site, clock: Clock, dash_expires_in: int) -> None:
    tokens = site.sign_in()
    site.oauth.turn(OAuthKnobs(dash_expires_in=dash_expires_in))
    fresh = site.refresh(tokens["refresh_token"]).json()
    assert fresh["expires_in"] == dash_expires_in
    assert fresh["refresh_token"] != tokens["refresh_token"]
    assert fresh["resource"] == f"{site.url}/mcp"
    clock.now += min(dash_expires_in, 3600) - 1
    assert site.works(fresh["access_token"])
    assert site.works(tokens["access_token"])


def test_refreshing_does_not_prolong_the_grant(site: Site, clock: Clock) -> None:
    tokens = site.sign_in()
    clock.now += 29.5 * 86_400
    tokens = site.refresh(tokens["refresh_token"]).json()
    assert tokens["expires_in"] == 43_200
    clock.now += 43_200 - 60
    tokens = site.refresh(tokens["refresh_token"]).json()
    clock.now += 1
    assert said(site.refresh(tokens["refresh_token"])) == grant("Refresh token has expired")


def test_the_predecessor_works_until_the_newest_is_used(site: Site) -> None:
    r0 = site.sign_in()["refresh_token"]
    r1 = site.refresh(r0).json()["refresh_token"]
    r1b = site.refresh(r0).json()["refresh_token"]
    assert said(site.refresh(r1)) == grant("Invalid refresh token")
    assert site.refresh(r1b).status_code == 200
    assert said(site.refresh(r0)) == grant("Invalid refresh token")


def test_a_server_that_lags_knows_the_predecessor_only(site: Site, clock: Clock) -> None:
    r0 = site.sign_in()["refresh_token"]
    site.oauth.turn(OAuthKnobs(lag_seconds=60))
    r1 = site.refresh(r0).json()["refresh_token"]
    assert said(site.refresh(r1)) == grant("Invalid refresh token")
    clock.now += 60
    assert site.refresh(r1).status_code == 200


@pytest.mark.parametrize(("rotates", "winners"), [(True, 1), (False, 4)])
def test_four_refreshes_at_once(site: Site, *, rotates: bool, winners: int) -> None:
    r0 = site.sign_in()["refresh_token"]
    site.oauth.turn(OAuthKnobs(dash_rotates=rotates, dash_latency_seconds=0.2))
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(site.refresh, [r0] * 4))
    won = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(won) == winners
    assert all(site.works(tokens["access_token"]) for tokens in won)
    lost = [said(answer) for answer in answers if answer.status_code != 200]
    assert set(lost) <= {grant("Authorization grant is invalid, expired, or revoked")}
    assert sum(site.refresh(tokens["refresh_token"]).status_code == 200 for tokens in won) == 1


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        ({"refresh_token": ""}, (400, "invalid_request", "Refresh token is required")),
        ({"refresh_token": "abc"}, grant("Invalid token format")),
        ({"refresh_token": "a:b:c"}, grant("Grant not found")),
        ({"client_id": "unknown"}, (401, "invalid_client", "Client not found")),
        ({"client_id": ""}, (401, "invalid_client", "Client ID is required")),
    ],
)
def test_a_refresh_that_is_refused_says_why(site: Site, form: dict[str, str], answer: Refused) -> None:
    fields = {"refresh_token": site.sign_in()["refresh_token"]} | form
    assert said(site.token(grant_type="refresh_token", **fields)) == answer


def test_a_refresh_token_is_for_its_client(site: Site) -> None:
    tokens, other = site.sign_in(), site.register()
    assert said(site.refresh(tokens["refresh_token"], client_id=other["client_id"])) == grant("Client ID mismatch")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (400, grant("Authorization grant is invalid, expired, or revoked")),
        (403, grant("Access denied")),
        (401, (401, "invalid_client", "Client authentication failed")),
        (429, (503, "temporarily_unavailable", "Token refresh failed")),
        (500, (500, "server_error", "Upstream token service unavailable")),
        (503, (500, "server_error", "Upstream token service unavailable")),
    ],
)
def test_trouble_at_dash_leaves_the_refresh_token_good(site: Site, status: int, answer: Refused) -> None:
    tokens = site.sign_in()
    site.oauth.fail_next(status)
    assert said(site.refresh(tokens["refresh_token"])) == answer
    assert site.refresh(tokens["refresh_token"]).status_code == 200


def test_a_broken_connection_or_a_page_of_the_edge_leaves_it_good_too(site: Site) -> None:
    refresh_token = site.sign_in()["refresh_token"]
    for mishap in ("drop", "lost"):
        site.oauth.fail_next(mishap)
        with pytest.raises(httpx2.RemoteProtocolError):
            site.refresh(refresh_token)
    site.oauth.fail_next("html")
    page = site.refresh(refresh_token)
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    site.oauth.fail_next("garbled")
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        site.refresh(refresh_token).json()
    assert site.refresh(refresh_token).status_code == 200
    assert site.oauth.refreshes == 5


def test_an_inner_life_under_a_minute_is_refused(site: Site) -> None:
    tokens = site.sign_in()
    site.oauth.turn(OAuthKnobs(dash_expires_in=59))
    problem = "Requested token lifetime must be at least 60 seconds"
    assert said(site.refresh(tokens["refresh_token"])) == (400, "invalid_request", problem)


def test_another_resource_at_a_refresh_is_refused_after_the_rotation(site: Site) -> None:
    r0 = site.sign_in()["refresh_token"]
    problem = "Requested resource was not included in the authorization request"
    assert said(site.refresh(r0, resource=site.url)) == (400, "invalid_target", problem)
    assert site.refresh(r0).status_code == 200


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_client_with_a_secret_may_show_it_either_way(site: Site, method: str) -> None:
    site.client = site.register(method)
    client_id, secret = site.client["client_id"], site.client["client_secret"]
    tokens = site.exchange(site.code(), client_secret=secret).json()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    problem = "Client authentication failed: missing client_secret"
    assert said(site.refresh(tokens["refresh_token"])) == (401, "invalid_client", problem)
    problem = "Client authentication failed: invalid client_secret"
    wrong = site.refresh(tokens["refresh_token"], client_secret="wrong")
    assert said(wrong) == (401, "invalid_client", problem)
    assert site.http.post("/token", data=form, auth=(client_id, secret)).status_code == 200
    twice = site.http.post("/token", data=form | {"client_id": client_id}, auth=(client_id, secret))
    assert said(twice)[1:] == ("invalid_request", "Client must not use multiple authentication methods")


def test_a_public_client_may_show_any_secret(site: Site) -> None:
    assert site.exchange(site.code(), client_secret="whatever").status_code == 200


def test_only_forms_without_repetition_are_read(site: Site) -> None:
    problem = "Content-Type must be application/x-www-form-urlencoded"
    assert said(site.http.post("/token", json={})) == (400, "invalid_request", problem)
    twice = b"client_id=a&client_id=b"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    repeated = 'Request parameter "client_id" must not be repeated'
    assert said(site.http.post("/token", content=twice, headers=form)) == (400, "invalid_request", repeated)
    basic = form | {"Authorization": "Basic !"}
    problem = "Client authentication failed: invalid Basic credentials"
    assert said(site.http.post("/token", content=b"", headers=basic)) == (401, "invalid_client", problem)
    assert site.http.get("/token").status_code == 405


@pytest.mark.parametrize("grant_type", ["password", "client_credentials", ""])
def test_other_grant_types_are_not_supported(site: Site, grant_type: str) -> None:
    answer = said(site.token(grant_type=grant_type))
    assert answer == (400, "unsupported_grant_type", "Grant type not supported")


def test_revoking_an_access_token_ends_only_it(site: Site) -> None:
    tokens = site.sign_in()
    response = site.token(token=tokens["access_token"])
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "cache-control" not in response.headers
    assert not site.works(tokens["access_token"])
    assert site.refresh(tokens["refresh_token"]).status_code == 200


def test_revoking_a_refresh_token_ends_the_grant(site: Site) -> None:
    tokens = site.sign_in()
    assert site.token(token=tokens["refresh_token"]).status_code == 200
    assert not site.works(tokens["access_token"])
    assert site.token(token="a:b:c").status_code == 200
    assert site.token(token="junk").status_code == 200


@pytest.mark.parametrize(
    ("resource", "on_mcp", "on_sse"),
    [("/mcp", True, False), ("", True, True), ("/mcp/", False, False), ("none", True, True)],
)
def test_a_token_works_at_its_resource_and_below(site: Site, *, resource: str, on_mcp: bool, on_sse: bool) -> None:
    tokens = site.sign_in(resource="" if resource == "none" else site.url + resource)
    assert (site.works(tokens["access_token"]), site.works(tokens["access_token"], "/sse")) == (on_mcp, on_sse)


def test_a_token_for_another_spelling_of_the_host_is_told_so(site: Site) -> None:
    tokens = site.sign_in(resource=site.url.replace("127.0.0.1", "localhost") + "/mcp")
    response = site.use(tokens["access_token"])
    assert response.json() == {
        "error": "invalid_token",
        "error_description": "Token audience does not match resource server",
    }
    assert response.headers["www-authenticate"].startswith(
        f'Bearer realm="OAuth", resource_metadata="{site.url}/.well-known/oauth-protected-resource/mcp"'
    )


def test_an_access_token_ends(site: Site, clock: Clock) -> None:
    tokens = site.sign_in()
    clock.now += 3600
    response = site.use(tokens["access_token"])
    assert (response.status_code, response.json()["error_description"]) == (401, "Access token expired")
    assert site.use("a:b:c").json()["error_description"] == "Invalid access token"


def test_signing_in_again_with_the_same_client_ends_the_earlier_grant(site: Site) -> None:
    first, second = site.sign_in(), site.sign_in()
    assert not site.works(first["access_token"])
    assert said(site.refresh(first["refresh_token"])) == grant("Grant not found")
    site.client = site.register()
    third = site.sign_in()
    assert site.works(second["access_token"])
    assert site.works(third["access_token"])


def test_an_inner_token_that_ended_fails_the_call_and_nothing_else(site: Site, clock: Clock) -> None:
    site.oauth.turn(OAuthKnobs(dash_expires_in=120))
    tokens = site.sign_in()
    arguments = {"since": "2026-11-01", "before": "2026-11-02", "limit": 1}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body |= {"params": {"name": "auditlogs_by_account_id", "arguments": arguments}}

    def call(token: str) -> str:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
        return site.http.post("/mcp", json=body, headers=headers).text

    assert "result_info" in call(tokens["access_token"])
    clock.now += 120
    assert "Cloudflare API request failed" in call(tokens["access_token"])
    fresh = site.refresh(tokens["refresh_token"]).json()
    assert "result_info" in call(fresh["access_token"])
    assert "Cloudflare API request failed" in call(tokens["access_token"])
