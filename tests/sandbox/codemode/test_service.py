"""The code-mode server, byte by byte: its one route, its three generations, its tools and its ways to fail."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.sources.codemode.frame import read_frame
from cfaudit_export.sources.codemode.snippet import Parameters, write_code
from cfaudit_sandbox.oauth.visitor import visit

if TYPE_CHECKING:
    import httpx2
    from tests.core.sandbox.conftest import Connect, Wire

PATH = "/codemode/mcp"
WHOLE = f"{PATH}?truncateToolResult=false"
SPAN = (("since", "2026-10-01"), ("before", "2026-11-21"), ("direction", "asc"), ("limit", "1000"))
every_generation = pytest.mark.parametrize("generation", ["G0", "A", "B"])


def execute(wire: Wire, path: str = WHOLE, *, code: str | None = None, **ask: Any) -> tuple[str, bool]:
    """Call the tool in the 2025 form, which all generations speak; return its text and whether it is an error."""
    account = wire.world.accounts[0].id
    given = Parameters(**{"account": account, "query": SPAN, "pages": 1, "most": 10**8} | ask)
    arguments = {"code": write_code(given) if code is None else code, "account_id": account}
    result = answer_of(wire.legacy("tools/call", {"name": "execute", "arguments": arguments}, path=path))["result"]
    [content] = result["content"]
    return content["text"], result.get("isError", False)


def answer_of(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    text = response.text
    body: dict[str, Any] = json.loads(text.partition("data: ")[2] if text.startswith("event:") else text)
    return body


@every_generation
def test_it_says_who_it_is(connect: Connect, hello: dict[str, Any], generation: str) -> None:
    wire = connect(events=1, codemode_generation=generation)
    asked = hello | {"protocolVersion": "2026-07-28" if generation == "G0" else "2025-11-25"}
    response = wire.legacy("initialize", asked, path=PATH)
    result = answer_of(response)["result"]
    assert result["protocolVersion"] == "2025-11-25"
    assert result["serverInfo"] == {"name": "cloudflare-api", "version": "0.1.0"}
    assert ("listChanged" in result["capabilities"]["tools"]) == (generation == "G0")
    assert "mcp-session-id" not in response.headers


@every_generation
def test_each_era_is_answered_in_its_form(connect: Connect, generation: str) -> None:
    wire = connect(events=1, codemode_generation=generation)
    both = "application/json, text/event-stream"
    old, new = wire.legacy("tools/list", path=PATH), wire.modern("tools/list", path=PATH, accept=both)
    assert old.headers["content-type"] == ("application/json" if generation == "G0" else "text/event-stream")
    if generation == "G0":
        assert new.status_code == 400
        assert new.json()["error"]["code"] == -32000
        assert new.json()["error"]["message"].startswith("Bad Request: Unsupported protocol version")
        assert wire.modern("tools/list", path=PATH).status_code == 406
    else:
        assert new.headers["content-type"] == "application/json"
        assert new.json()["result"]["resultType"] == "complete"
        found = wire.modern("server/discover", path=PATH).json()["result"]
        assert found["supportedVersions"] == ["2026-07-28"]
        assert (found["ttlMs"], found["cacheScope"]) == (0, "private")


@every_generation
def test_only_its_one_route_and_a_post_are_served(connect: Connect, generation: str) -> None:
    wire = connect(events=1, codemode_generation=generation)
    assert wire.post({}, path="/codemode/mcp/x").status_code == 404
    assert wire.post({}, path="/codemode/sse").text == "Not Found"
    headers = {"authorization": f"Bearer {wire.token}"}
    got, deleted = (wire.http.request(verb, wire.sandbox.url + PATH, headers=headers) for verb in ("GET", "DELETE"))
    if generation == "G0":
        assert (got.status_code, got.text, deleted.status_code) == (200, "", 200)
    else:
        for refused in (got, deleted):
            assert refused.status_code == 405
            assert refused.json()["error"] == {"code": -32000, "message": "Method not allowed."}


def test_the_first_generation_asks_nobody_where_they_come_from(connect: Connect) -> None:
    wire = connect(events=1, codemode_generation="G0")
    for header in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        assert wire.legacy("ping", path=PATH, **header).status_code == 200


@pytest.mark.parametrize("body", [[], [{"jsonrpc": "2.0", "method": "notifications/initialized"}]])
def test_the_first_generation_accepts_a_batch_without_requests(connect: Connect, body: object) -> None:
    assert connect(events=1, codemode_generation="G0").post(body, path=PATH).status_code == 202


@every_generation
def test_a_batch_is_answered_with_one_result_for_each_request(connect: Connect, generation: str) -> None:
    wire = connect(events=1, codemode_generation=generation)
    pings = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in (1, 2)]
    response = wire.post(pings, path=PATH)
    wanted = [{"jsonrpc": "2.0", "id": number, "result": {}} for number in (1, 2)]
    if generation == "G0":
        assert response.json() == wanted
    else:
        assert [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data:")] == wanted


@pytest.mark.parametrize(
    ("body", "status", "code", "start"),
    [
        (b"{", 400, -32700, "Parse error: Invalid JSON"),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, 400, -32700, "Parse error: Invalid JSON-RPC message"),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}, 200, -32603, "[\n  {"),
    ],
)
def test_the_first_generation_has_other_codes_for_what_it_cannot_read(
    connect: Connect, body: object, status: int, code: int, start: str
) -> None:
    response = connect(events=1, codemode_generation="G0").post(body, path=PATH)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"].startswith(start)


def test_the_first_generation_takes_bodies_of_any_size(connect: Connect) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y" * 4_200_000}}).encode()
    assert connect(events=1, codemode_generation="G0").post(body, path=PATH).status_code == 200
    assert connect(events=1).post(body, path=PATH).status_code == 413


@pytest.mark.parametrize("argument", ["code", "account_id"])
def test_arguments_that_are_no_texts_are_named(connect: Connect, argument: str) -> None:
    wire = connect(events=1)
    arguments = {"code": write_code(Parameters(None)), argument: [5]}
    reply = answer_of(wire.legacy("tools/call", {"name": "execute", "arguments": arguments}, path=PATH))["result"]
    assert reply["content"][0]["text"].endswith(f"execute: {argument}: Invalid input: expected string, received array")


def test_strangers_are_refused_before_any_token_is_looked_at(connect: Connect) -> None:
    wire = connect(events=1)
    for header in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        assert wire.post({}, path=PATH, authorization="", **header).status_code == 403
    assert wire.http.options(wire.sandbox.url + PATH).status_code == 204
    assert wire.legacy("ping", path=PATH, host="mcp.cloudflare.com").status_code == 200


@pytest.mark.parametrize("token", ["user", "account"])
@every_generation
def test_the_tools_of_a_late_generation_are_the_same_for_every_token(
    connect: Connect, generation: str, token: str
) -> None:
    wire = connect(events=1, accounts=2, token=token, codemode_generation=generation)
    tools = {tool["name"]: tool for tool in answer_of(wire.legacy("tools/list", path=PATH))["result"]["tools"]}
    assert list(tools) == (["search", "execute"] if generation == "G0" else ["docs", "search", "execute", "whoami"])
    tool = tools["execute"]
    schema = tool["inputSchema"]
    assert schema["required"] == ["code"]
    assert ("account_id" in schema["properties"]) == (generation != "G0" or token == "user")
    assert "account_id" not in tools["search"]["inputSchema"]["properties"]
    assert ("draft-07" in schema["$schema"]) == (generation == "G0")
    assert ("execution" in tool) == (generation == "G0")
    assert ("_meta" in tool) == (generation == "B")
    assert "outputSchema" not in tool
    if generation != "G0":
        assert tool["annotations"] == {
            "title": "Cloudflare API Code Executor",
            "readOnlyHint": False,
            "destructiveHint": True,
            "openWorldHint": True,
        }


@every_generation
def test_long_replies_are_cut_unless_a_late_generation_is_told_not_to(connect: Connect, generation: str) -> None:
    wire = connect(events=300, codemode_generation=generation)
    whole, _ = execute(wire, WHOLE)
    for path in (PATH, f"{PATH}?truncateToolResult=0", f"{PATH}?truncateToolResult=true"):
        text, is_error = execute(wire, path)
        kept, _, notice = text.partition("\n\n--- TRUNCATED ---\n")
        assert not is_error
        assert len(kept.encode("utf-16-le")) // 2 == 24_000
        assert notice.endswith("tokens (limit: 6,000). Use more specific queries to reduce response size.")
        assert whole.startswith(kept)
    assert ("--- TRUNCATED ---" in whole) == (generation == "G0")
    if generation != "G0":
        assert len(json.loads(bytes(read_frame(whole).bodies[0]))["result"]) == 300


@pytest.mark.parametrize(("text", "passes"), [("x", True), ("\u00e9", True), ("\u2615", False)])
def test_seventeen_million_characters_pass_unless_they_take_two_bytes_each(
    connect: Connect, text: str, *, passes: bool
) -> None:
    wire = connect(events=1)
    record = {"action": {"time": "2026-11-19T12:00:00Z"}, "id": "large", "resource": {"value": text * 17_000_000}}
    wire.world.add(wire.world.accounts[0].id, [record])
    said, is_error = execute(wire)
    assert is_error != passes
    if not passes:
        assert said.startswith("Error: Serialized RPC arguments or return values are limited to 32MiB, but the size")


@every_generation
def test_calls_that_cannot_run_are_told_in_the_words_of_the_generation(connect: Connect, generation: str) -> None:
    wire = connect(events=1, codemode_generation=generation)
    late = "Input validation error: Invalid arguments for tool execute: code: "

    def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return answer_of(wire.legacy("tools/call", {"name": name, "arguments": arguments}, path=PATH))

    missing = call("execute", {})["result"]
    assert missing["isError"]
    start = "MCP error -32602: Input validation error" if generation == "G0" else late
    assert missing["content"][0]["text"].startswith(start)
    unknown = call("nope", {})
    if generation == "G0":
        assert unknown["result"]["content"][0]["text"] == "MCP error -32602: Tool nope not found"
    else:
        assert unknown["error"] == {"code": -32602, "message": "Tool nope not found"}


def test_no_other_code_is_run(connect: Connect) -> None:
    text, is_error = execute(connect(events=1), code="async () => cloudflare.request({path: '/user'})")
    assert is_error
    assert "no other code" in text


@every_generation
def test_without_a_choice_the_accounts_are_listed(connect: Connect, generation: str) -> None:
    wire = connect(events=1, accounts=3, codemode_generation=generation)
    arguments = {"code": write_code(Parameters(None))}
    result = answer_of(wire.legacy("tools/call", {"name": "execute", "arguments": arguments}, path=PATH))["result"]
    text = result["content"][0]["text"]
    listed = [f"- {account.id} ({account.name})" for account in wire.world.accounts]
    if generation == "G0":  # refused before anything runs
        assert result["isError"]
        assert text.startswith("Error: Multiple accounts available. Please specify account_id parameter.")
    else:  # reading `accountId` throws, and the snippet says so
        assert "isError" not in result
        failure = read_frame(text).header.err
        assert failure is not None
        text = failure.text
        assert text.startswith("Error: No account selected. Pass account_id")
    assert all(line in text for line in listed)


@every_generation
def test_a_call_costs_its_pages_and_in_the_first_generation_the_look_up_too(connect: Connect, generation: str) -> None:
    wire = connect(events=300, codemode_generation=generation)
    for _ in range(2):
        execute(wire, query=(*SPAN[:3], ("limit", "100")), pages=3)
    costs = [seen.cost for seen in wire.sandbox.requests.calls if seen.tool == "execute"]
    assert costs == ([5, 5] if generation == "G0" else [5, 3])


@pytest.mark.parametrize(
    ("token", "status", "error"),
    [("", 401, None), ("expired", 401, "invalid_token"), ("forbidden", 403, "insufficient_scope")],
)
@every_generation
def test_whom_it_does_not_know_it_turns_away(
    connect: Connect, generation: str, token: str, status: int, error: str | None
) -> None:
    wire = connect(events=1, codemode_generation=generation)
    bearer = f"Bearer {wire.world.tokens[token]}" if token else ""
    response = wire.legacy("initialize", {}, path=PATH, authorization=bearer)
    if generation == "G0" and token:
        assert response.status_code == 401
        assert response.json() == {"error": "Failed to fetch user or accounts"}
        return
    assert response.status_code == status
    if generation == "G0":
        assert "resource_metadata" not in response.headers["www-authenticate"]
        assert response.json()["error_description"] == "Missing or invalid access token"
        return
    assert f"/.well-known/oauth-protected-resource{PATH}" in response.headers["www-authenticate"]
    if error is None:
        assert "error=" not in response.headers["www-authenticate"]
        assert response.content == b""
    else:
        assert response.json()["error"] == error
        assert response.headers["cache-control"] == "no-store"


def test_a_throttled_look_up_is_told_with_the_time_to_wait(connect: Connect) -> None:
    wire = connect(events=1)
    wire.sandbox.upstream.fail_next(429, where="probe", retry_after=42)
    response = wire.legacy("initialize", {}, path=PATH)
    assert response.status_code == 429
    assert response.json()["error"] == "temporarily_unavailable"
    assert response.headers["retry-after"] == "42"


def test_the_answer_to_a_sign_in_is_no_stream(connect: Connect, tmp_path: Path) -> None:
    wire, store = connect(events=1), GrantStore(tmp_path)
    grant = sign_in(
        SignIn(server_url=wire.sandbox.codemode_url, limit_seconds=60),
        store,
        clock=lambda: datetime.now(UTC),
        tell=lambda _line: None,
        open_browser=visit,
    )
    assert grant.resource == wire.sandbox.codemode_url
    wire.token = grant.access_token
    response = wire.legacy("tools/list", path=PATH)
    assert response.headers["content-type"] == "application/json"
    assert [tool["name"] for tool in response.json()["result"]["tools"]][2] == "execute"
    assert wire.legacy("tools/list", path="/mcp").status_code == 401, "a token is good for one server only"
