"""Exports through a gateway: a proxy in front of the server, with the habits of those that companies run."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cfaudit_export.cli import main
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.server.identity import Refusal

EVENTS = 300
SESSION_SECONDS = 30 * 60
_PASSED_ON = ("accept", "content-type", "mcp-protocol-version")
_OTHER_TOOL = {"name": "Slack_searchMessages", "description": "Search", "inputSchema": {"type": "object"}}


@dataclass
class Gateway:
    """The application. It knows revisions of 2025 only, passes on no header that it does not know, and buffers.

    Attributes:
        upstream: the URL of the server behind.
        key: what the header `X-Api-Key` must say; empty for anything.
        oauth: the sign-in of the gateway's own; None for none.
        token: what it sends upstream in the place of the caller's bearer; empty passes that through.
        prefix: goes before the names of tools, among which is one more then.
        call_seconds: how much later it is on the gateway's clock after each call of a tool.
        seen: method and headers of every MCP request.
        sessions: when each session began.
    """

    upstream: str
    key: str = ""
    oauth: OAuth | None = None
    token: str = ""
    prefix: str = ""
    call_seconds: float = 0.0
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sessions: dict[str, float] = field(default_factory=dict)
    now: float = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.url.path != "/mcp":
            return await self.oauth.answer(request) if self.oauth else Response("nothing", 404)
        if self.key and request.headers.get("x-api-key") != self.key:
            return JSONResponse({"error": "an api key is needed"}, 403)
        refused = self._signed_in(request)
        if refused is not None:
            return refused
        if request.method != "POST":
            return Response(status_code=200 if request.method == "DELETE" else 405)
        message = await request.json()
        self.seen.append((message["method"], dict(request.headers)))
        return self._without_session(request, message["method"]) or await self._passed_on(request, message)

    def _signed_in(self, request: Request) -> Response | None:
        if self.oauth is None:
            return None
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not isinstance(self.oauth.caller(token, request), Refusal):
            return None
        metadata = f"{request.base_url}.well-known/oauth-protected-resource/mcp"
        return Response(status_code=401, headers={"WWW-Authenticate": f'Bearer resource_metadata="{metadata}"'})

    def _without_session(self, request: Request, method: str) -> Response | None:
        session = request.headers.get("mcp-session-id")
        if method == "initialize":
            return None
        if session is None:
            return _refusal(400, "Bad Request: Missing session ID")
        if session not in self.sessions or self.now >= self.sessions[session] + SESSION_SECONDS:
            return _refusal(404, "Session not found")
        return None

    async def _passed_on(self, request: Request, message: dict[str, Any]) -> Response:
        if message["method"] == "tools/call":
            self.now += self.call_seconds
            message["params"]["name"] = message["params"]["name"].removeprefix(self.prefix)
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        bearer = f"Bearer {self.token}" if self.token else request.headers.get("authorization")
        headers |= {"authorization": bearer} if bearer else {}
        async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
            reply = await http.post(self.upstream, json=message, headers=headers)
        body = self._renamed(reply.content) if message["method"] == "tools/list" and self.prefix else reply.content
        response = Response(body, reply.status_code, media_type=reply.headers.get("content-type"))
        if message["method"] == "initialize" and reply.status_code == 200:
            session = str(uuid.uuid4())
            self.sessions[session] = self.now
            response.headers["mcp-session-id"] = session
        return response

    def _renamed(self, body: bytes) -> bytes:
        head, _, data = body.partition(b"data: ")
        answer = json.loads(data)
        tools = answer["result"]["tools"]
        for tool in tools:
            tool["name"] = self.prefix + tool["name"]
        tools.append(_OTHER_TOOL)
        return head + b"data: " + json.dumps(answer).encode() + b"\n\n"


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32600, "message": message}}, status)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=EVENTS, accounts=2, seed=4))) as sandbox:
        yield sandbox


@pytest.fixture
def gateway_with(sandbox: Sandbox) -> Iterator[Callable[..., tuple[Gateway, str]]]:
    """Serve a gateway at an origin of its own; give it and its MCP URL."""
    with ExitStack() as stack:

        def serve(*, own_sign_in: bool = False, **habits: Any) -> tuple[Gateway, str]:
            world = World(SandboxOptions(events=0))
            gateway = Gateway(sandbox.mcp_url, oauth=OAuth(world) if own_sign_in else None, **habits)
            front = stack.enter_context(Sandbox(world))
            front.app.mounts = {"/": gateway}
            return gateway, front.mcp_url

        yield serve


@pytest.fixture
def export(
    sandbox: Sandbox, place_of: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, Callable[..., Any]]]:
    """Make a machine that exports from a URL with some environment, and a way to run commands on it in this process."""

    def make(url: str, **environ: str) -> tuple[Any, Callable[..., Any]]:
        place = place_of(sandbox, "--recover", "off", "--server-url", url, **{"CLOUDFLARE_API_TOKEN": "", **environ})
        for name, value in place.environment().items():
            monkeypatch.setenv(name, value)

        return place, partial(place.here, capsys)

    return make


def bearers(gateway: Gateway) -> set[str | None]:
    return {headers.get("authorization") for _, headers in gateway.seen}


def test_a_header_from_a_variable_opens_a_gateway_that_holds_the_token_itself(
    sandbox: Sandbox, gateway_with: Any, export: Any
) -> None:
    gateway, url = gateway_with(key="key-of-the-gateway", token=sandbox.world.tokens["user"])
    place, command = export(url, GATEWAY_KEY="key-of-the-gateway")
    assert command().code == 77
    ended = command("--header", "X-Api-Key=GATEWAY_KEY", "-vv")
    assert ended.code == 0, ended.err
    place.assert_everything_is_there_once()
    assert bearers(gateway) == {None}
    assert "key-of-the-gateway" not in ended.err + ended.out


def test_a_gateway_s_own_sign_in_stays_between_it_and_us(sandbox: Sandbox, gateway_with: Any, export: Any) -> None:
    gateway, url = gateway_with(own_sign_in=True, key="key", token=sandbox.world.tokens["user"])
    place, command = export(url, KEY="key")
    header = ("--header", "X-Api-Key=KEY")
    before = command(*header)
    assert before.code == 77
    assert "sign in with: cfaudit-export login" in before.err
    signed_in = place.sign_in(url, *header)
    assert signed_in.code == 0, signed_in.err
    ended = command(*header)
    assert ended.code == 0, ended.err
    place.assert_everything_is_there_once()
    [bearer] = bearers(gateway)
    assert bearer != f"Bearer {sandbox.world.tokens['user']}"
    assert main(["logout", "--server-url", url, "--state-dir", str(place.state), *header]) == 0
    assert command(*header).code == 77


def test_a_bearer_passes_through(sandbox: Sandbox, gateway_with: Any, export: Any) -> None:
    gateway, url = gateway_with()
    place, command = export(url, CLOUDFLARE_API_TOKEN=sandbox.world.tokens["user"])
    assert command().code == 0
    place.assert_everything_is_there_once()
    assert bearers(gateway) == {f"Bearer {sandbox.world.tokens['user']}"}


def test_an_access_key_of_the_gateway_may_stand_where_the_token_would(
    sandbox: Sandbox, gateway_with: Any, export: Any
) -> None:
    gateway, url = gateway_with(token=sandbox.world.tokens["user"])
    place, command = export(url, ACCESS="Basic YWNjZXNzOmtleQ==")
    ended = command("--header", "Authorization=ACCESS")
    assert ended.code == 0, ended.err
    place.assert_everything_is_there_once()
    assert bearers(gateway) == {"Basic YWNjZXNzOmtleQ=="}


def test_the_tool_is_found_under_a_prefix_among_those_of_other_servers(
    sandbox: Sandbox, gateway_with: Any, export: Any
) -> None:
    _, url = gateway_with(prefix="Cloudflare_Audit_")
    place, command = export(url, CLOUDFLARE_API_TOKEN=sandbox.world.tokens["user"])
    assert command().code == 0
    place.assert_everything_is_there_once()


@pytest.mark.parametrize("protocol", ["auto", "2025-11-25"])
def test_a_gateway_of_the_older_protocol_is_spoken_to_in_it(
    sandbox: Sandbox, gateway_with: Any, export: Any, protocol: str
) -> None:
    gateway, url = gateway_with()
    place, command = export(url, CLOUDFLARE_API_TOKEN=sandbox.world.tokens["user"])
    more = ("-o", f"sources.auditlogs.protocol={protocol}")
    assert "protocol 2025-11-25" in command(*more, name="check").out
    assert command(*more).code == 0
    place.assert_everything_is_there_once()
    methods = Counter(method for method, _ in gateway.seen)
    assert methods["initialize"] == 2
    assert methods["server/discover"] == (2 if protocol == "auto" else 0)


def test_sessions_that_end_after_half_an_hour_are_opened_again_and_cost_no_event(
    sandbox: Sandbox, gateway_with: Any, export: Any
) -> None:
    gateway, url = gateway_with(call_seconds=5 * 60)
    place, command = export(url, CLOUDFLARE_API_TOKEN=sandbox.world.tokens["user"])
    ended = command("-o", "sources.auditlogs.page_size=10")
    assert ended.code == 0, ended.err
    place.assert_everything_is_there_once()
    assert len(gateway.sessions) >= 3
    assert gateway.now > 3 * SESSION_SECONDS


def test_the_account_is_chosen_by_argument_where_the_header_is_dropped(
    sandbox: Sandbox, gateway_with: Any, export: Any
) -> None:
    gateway, url = gateway_with()
    second = sandbox.world.accounts[1].id
    place, _ = export(url, CLOUDFLARE_API_TOKEN=sandbox.world.tokens["user"])
    assert main(["run", *(word.replace(place.account, second) for word in place.command()[3:])]) == 0
    rows = place.rows()
    assert (rows.num_rows, set(rows["account_id"].to_pylist())) == (EVENTS, {second})
    calls = [headers for method, headers in gateway.seen if method == "tools/call"]
    assert {headers["cf-account-id"] for headers in calls[1:]} == {second}  # the first asks which accounts there are
    assert "cf-account-id" not in _PASSED_ON


def test_all_of_it_at_once(sandbox: Sandbox, gateway_with: Any, export: Any) -> None:
    habits = {"key": "key", "token": sandbox.world.tokens["user"], "prefix": "Audit_", "call_seconds": 5 * 60}
    gateway, url = gateway_with(own_sign_in=True, **habits)
    place, command = export(url, KEY="key")
    more = ("--header", "X-Api-Key=KEY", "-o", "sources.auditlogs.page_size=20")
    assert place.sign_in(url, *more[:2]).code == 0
    assert command(*more).code == 0
    place.assert_everything_is_there_once()
    assert len(gateway.sessions) >= 3
    [sink] = command(*more).report["sinks"]
    assert sink["rows"] == 0
