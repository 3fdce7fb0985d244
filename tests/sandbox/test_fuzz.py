"""No request crashes the sandbox: whatever it is sent, the answer is one that it meant to give."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from cfaudit_export.sources.codemode.snippet import Parameters, write_code
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth

if TYPE_CHECKING:
    from cfaudit_sandbox.oauth.grants import GrantRecord

_EXAMPLES, _MANY = 50, 10_000
_REDIRECT = "http://127.0.0.1:1/callback"
_PATHS = (
    *("/mcp", "/mcp/", "/sse", "/register", "/token", "/oauth/authorize", "/oauth/callback", "/dash/oauth2/auth"),
    *("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/"),
    *("/codemode/mcp", "/codemode/register", "/codemode/token", "/codemode/authorize", "/codemode/oauth/callback"),
    *("/.well-known/oauth-protected-resource/codemode/mcp", "/.well-known/oauth-authorization-server/codemode"),
    *("/sandbox/stats", "/sandbox/world", "/sandbox/reset", "/sandbox/knobs", "/sandbox/fail-next"),
    *("/client/v4/accounts", "/codemode/client/v4/accounts/{account}/logs/audit"),
)
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
_WINDOW = {"since": "2026-10-01", "before": "2026-11-21", "limit": 2}
_FIELDS = (
    *("client_id", "redirect_uri", "response_type", "state", "scope", "resource", "code", "code_verifier"),
    *("code_challenge", "code_challenge_method", "grant_type", "refresh_token", "token", "csrf_token", "cancel"),
    *("decision", "error", "since", "before", "limit", "cursor", "direction", "page", "per_page", "client_secret"),
)
_numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1, 20, 2**63, 10**30, 1e308]))
_texts = st.one_of(
    st.text(), st.sampled_from(["", "~", "\ud800", "2026-11-20", "0001-01-01", "9999-12-31", "a:b:c", "1"])
)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=6
)


def encoded(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """Return a document with one of its parts, or the whole, replaced, removed or added to."""
    if not isinstance(document, dict) or not document or draw(st.integers(0, 3)) == 0:
        return draw(st.just(document) | _values)
    name = draw(st.sampled_from(sorted(document)))
    copy = dict(document)
    if draw(st.integers(0, 4)) == 0:
        del copy[name]
    else:
        copy[name] = draw(changed(document[name]))
    return copy | draw(st.just({}) | st.dictionaries(st.sampled_from(["_meta", "cursor", "x"]), _values, max_size=1))


def documents(account: str) -> SearchStrategy[Any]:
    code = write_code(Parameters(account, (("since", "2026-10-01"), ("before", "2026-11-21")), pages=1, most=10**6))
    calls = [
        ("ping", {}),
        ("tools/list", {}),
        (
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "n", "version": "1"}},
        ),
        ("tools/call", {"name": "auditlogs_by_account_id", "arguments": _WINDOW | {"account_id": account}}),
        (
            "tools/call",
            {"name": "auditlogs_by_account_id", "arguments": _WINDOW | {"cursor": "MQ", "raw_status_code": 1}},
        ),
        ("tools/call", {"name": "execute", "arguments": {"code": code, "account_id": account}}),
        ("server/discover", {}),
    ]
    rpc = [{"jsonrpc": "2.0", "id": 1, "method": method, "params": params | meta}
           for method, params in calls for meta in ({}, {"_meta": _META})]  # fmt: skip
    others = [
        {"redirect_uris": [_REDIRECT], "client_name": "n", "token_endpoint_auth_method": "none", "contacts": ["a"]},
        {"status": 500, "times": 1, "where": "audit", "retry_after": 1},
        {"status": "rst-in", "times": 1, "where": "edge"},
        {"latency_seconds": 0.0, "edge_drop_rate": 0.0},
        {"page_cap": 5, "end_style": "empty", "drift": ["arrays"], "zod": 3},
        {"drift": ["small-pages", "required-argument", "fewer-filters"], "throttle_calls": 5, "empty_pages": 1},
    ]
    single = st.sampled_from([*rpc, *others]).flatmap(changed)
    return single | st.lists(single, max_size=3)


def forms(known: dict[str, list[str]]) -> SearchStrategy[dict[str, str]]:
    """Draw form fields, often with values that the server gave."""
    fields = {
        name: st.sampled_from(known.get(name, [""])) | _texts.map(lambda text: text.encode("utf-8", "replace").decode())
        for name in _FIELDS
    }
    return st.fixed_dictionaries({}, optional=fields)


def headers(token: str) -> SearchStrategy[dict[str, str]]:
    visible = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=12)
    optional = {
        "authorization": st.sampled_from([f"Bearer {token}", "Bearer", "Bearer a:b:c", "Basic !", "Basic YTpi"])
        | visible,
        "accept": st.sampled_from(["application/json", "*/*"]) | visible,
        "content-type": st.sampled_from(["application/x-www-form-urlencoded", "text/plain"]) | visible,
        "mcp-protocol-version": st.sampled_from(["2026-07-28", "2025-11-25", "2099-01-01"]) | visible,
        "mcp-method": st.sampled_from(["tools/call", "ping"]) | visible,
        "mcp-name": st.sampled_from(["auditlogs_by_account_id", "execute"]) | visible,
        "cf-account-id": visible,
        "origin": st.sampled_from(["http://localhost", "null", "http://[::1"]) | visible,
        "host": st.sampled_from(["localhost", "[::1", "mcp.cloudflare.com"]) | visible,
        "cookie": st.sampled_from(["__Host-CSRF_TOKEN=x", "__Host-MCP_APPROVED_CLIENTS=a.b"]) | visible,
    }
    usual = {
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "host": "localhost",
    }
    return st.fixed_dictionaries({}, optional=optional).map(lambda given: usual | given)


def grant_of(sandbox: Sandbox, oauth: OAuth) -> GrantRecord:
    """Begin a grant without a person, so that codes and tokens are at hand."""
    from cfaudit_sandbox.oauth.authorization import AuthorizationRequest

    client = oauth.memory.register({"redirect_uris": [_REDIRECT], "token_endpoint_auth_method": "none"})["client_id"]
    wish = AuthorizationRequest(
        response_type="code", client_id=client, redirect_uri=_REDIRECT, scope=[], state="s", resource=[]
    )
    inner = oauth.dash._issue()
    grant = oauth.memory.authorize("f0", wish, inner)
    grant.newest, grant.expires_at = grant.mint(), sandbox.world.clock() + 1e6
    return grant


class Site:
    """A sandbox of one generation, and requests to it that nearly make sense."""

    def __init__(self, sandbox: Sandbox, http: httpx2.Client) -> None:
        self.sandbox, self.http = sandbox, http
        oauth = sandbox.app.authorization
        assert isinstance(oauth, OAuth)
        grants = [grant_of(sandbox, one) for one in (oauth, sandbox.codemode.authorization)]
        account = sandbox.world.accounts[0].id
        wish = {"responseType": "code", "clientId": grants[0].client_id, "redirectUri": _REDIRECT, "state": "s"}
        wishes = [wish | {"scope": ["a"], "resource": resource} for resource in ("", [])]
        known = {
            "client_id": [grant.client_id for grant in grants],
            "redirect_uri": [_REDIRECT, f"{sandbox.url}/oauth/callback", "http://[::1"],
            "response_type": ["code", "token"],
            "state": [encoded({"oauthReqInfo": wish}) for wish in (*wishes, {}, 5)]
            + [encoded(5), encoded({"state": [1]})],
            "code": [grant.code for grant in grants],
            "refresh_token": [grant.newest for grant in grants],
            "token": [grant.newest for grant in grants],
            "grant_type": ["authorization_code", "refresh_token"],
            "resource": [sandbox.mcp_url, sandbox.codemode_url, "x", "http://[::1"],
            "code_challenge_method": ["S256", "plain"],
            "csrf_token": ["x", "\u00e9"],
            "error": ["access_denied"],
            "decision": ["allow", "deny"],
            "since": ["2026-10-01"],
            "before": ["2026-11-21"],
        }
        body = documents(account).map(lambda document: json.dumps(document).encode())
        form = forms(known)
        self.requests = st.tuples(
            st.sampled_from(["GET", "POST", "POST", "POST", "OPTIONS", "DELETE", "HEAD"]),
            st.sampled_from(_PATHS).map(lambda path: path.replace("{account}", account)),
            form,
            headers(sandbox.world.tokens["user"]),
            body | form.map(lambda fields: str(httpx2.QueryParams(fields)).encode()) | st.binary(max_size=30)
            | st.just(b"[" * 100_000),
        )  # fmt: skip

    def answers(self, request: tuple[str, str, dict[str, str], dict[str, str], bytes]) -> None:
        """Send a request; fail where the sandbox did."""
        method, path, query, headers, body = request
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        ended = ""
        try:
            with self.http.stream(method, path, params=query, headers=raw, content=body) as response:
                head = next(response.iter_text(), "")
                note(f"{response.status_code} {head[:200]}")
                ended = "crashed" if (response.status_code, head) == (500, "Internal Server Error") else "answered"
        except httpx2.TransportError as error:
            ended = repr(error)
        self.sandbox.world.turn(latency_seconds=0.0, edge_drop_rate=0.0)
        # `fail-next` is among the paths: a connection may end because it was told to.
        assert ended == "answered" or self.dropped(), ended

    def dropped(self) -> bool:
        return self.sandbox.requests.entries[-1].status == 0


@pytest.fixture(scope="module", params=["today-A", "0.20.9-B", "next-G0"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    auditlogs, codemode = request.param.rsplit("-", 1)
    options = SandboxOptions(
        events=20,
        auditlogs_generation=auditlogs,
        codemode_generation=codemode,
        keepalive_seconds=0.01,
        poison=("all=5",),
    )
    world = World(options)
    with (
        Sandbox(world, authorization=OAuth(world)) as sandbox,
        httpx2.Client(base_url=sandbox.url, timeout=60, trust_env=False) as http,
    ):
        yield Site(sandbox, http)


def fuzz(site: Site, examples: int) -> None:
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(site.requests)
    def every_request_is_answered(request: tuple[str, str, dict[str, str], dict[str, str], bytes]) -> None:
        site.answers(request)

    every_request_is_answered()


def test_no_request_crashes_the_sandbox(site: Site) -> None:
    fuzz(site, _EXAMPLES)


@pytest.mark.soak
def test_no_request_of_many_crashes_the_sandbox(site: Site) -> None:
    fuzz(site, _MANY)
