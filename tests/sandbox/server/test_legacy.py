"""The 2025 revisions, byte by byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from tests.core.sandbox.conftest import Connect, Wire


ALL_VERSIONS = "2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05, 2024-10-07"


def event(body: str) -> str:
    return f"event: message\ndata: {body}\n\n"


def refused(response: httpx2.Response) -> tuple[int, int, str, object]:
    body = response.json()
    assert list(body) == ["jsonrpc", "error", "id"]
    return response.status_code, body["error"]["code"], body["error"]["message"], body["id"]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        *[(version, version) for version in ALL_VERSIONS.split(", ")],
        ("2026-07-28", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
    ],
)
def test_initialize_echoes_a_known_version_or_answers_with_the_newest(
    wire: Wire, hello: dict[str, Any], asked: str, answered: str
) -> None:
    response = wire.legacy("initialize", hello | {"protocolVersion": asked})
    assert response.status_code == 200
    assert response.text == event(
        f'{{"result":{{"protocolVersion":"{answered}","capabilities":{{"tools":{{"listChanged":true}}}},'
        '"serverInfo":{"name":"auditlogs","version":"1.0.0"}},"jsonrpc":"2.0","id":1}'
    )
    headers = response.headers
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert "mcp-session-id" not in headers
    assert headers["access-control-allow-origin"] == "*"


def test_initialize_carries_instructions_where_there_are_several_accounts(
    connect: Connect, hello: dict[str, Any]
) -> None:
    response = connect(accounts=2, events=1).legacy("initialize", hello)
    result = json.loads(response.text.partition("data: ")[2])["result"]
    assert list(result) == ["protocolVersion", "capabilities", "serverInfo", "instructions"]


def test_a_ping_is_answered_with_nothing(wire: Wire) -> None:
    assert wire.legacy("ping").text == event('{"result":{},"jsonrpc":"2.0","id":1}')


def test_a_call_needs_no_initialize_and_ignores_a_session_id(wire: Wire) -> None:
    arguments = {"since": "2026-10-01", "before": "2026-11-21", "limit": 1}
    params = {"name": "auditlogs_by_account_id", "arguments": arguments}
    response = wire.legacy("tools/call", params, mcp_session_id="anything")
    assert response.text.startswith(
        'event: message\ndata: {"result":{"content":[{"type":"text","text":"{\\"logs\\":[{\\"description\\":'
    )
    assert response.text.endswith('"}]},"jsonrpc":"2.0","id":1}\n\n')


def test_unusual_characters_are_raw_in_the_stream_but_for_lone_surrogates(connect: Connect) -> None:
    wire = connect(events=1_000)
    arguments = {"since": "2026-10-01", "before": "2026-11-21", "limit": 1000}
    response = wire.legacy("tools/call", {"name": "auditlogs_by_account_id", "arguments": arguments})
    assert "\u2028".encode() in response.content
    assert "🚀".encode() in response.content
    assert b"\\\\ud83d (cut off)" in response.content
    data = response.content.removeprefix(b"event: message\ndata: ").removesuffix(b"\n\n")
    assert b"\n" not in data
    text = json.loads(data)["result"]["content"][0]["text"]
    assert any("\ud83d" in row["description"] for row in json.loads(text)["logs"])


def test_an_error_of_the_tool_is_marked_in_the_result(wire: Wire) -> None:
    wire.sandbox.upstream.fail_next(429)
    arguments = {"since": "2026-10-01", "before": "2026-11-21"}
    response = wire.legacy("tools/call", {"name": "auditlogs_by_account_id", "arguments": arguments})
    assert response.text == event(
        r'{"result":{"content":[{"type":"text","text":"{\"error\":\"Error reading audit logs: '
        r'Cloudflare API request failed\"}"}],"isError":true},"jsonrpc":"2.0","id":1}'
    )


@pytest.mark.parametrize("method", ["prompts/list", "resources/list", "logging/setLevel", "server/discover"])
def test_an_unknown_method_is_an_error_in_the_stream(wire: Wire, method: str) -> None:
    response = wire.legacy(method)
    assert response.status_code == 200
    assert response.text == event('{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}')


def test_an_unknown_tool_is_an_error_in_the_stream(wire: Wire) -> None:
    response = wire.legacy("tools/call", {"name": "nope", "arguments": {}})
    assert response.text == event('{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Tool nope not found"}}')


def test_gateways_may_prefix_the_name_of_the_tool(connect: Connect) -> None:
    wire = connect(tool_prefix="cf_")
    tools = json.loads(wire.legacy("tools/list").text.partition("data: ")[2])["result"]["tools"]
    assert [tool["name"] for tool in tools] == ["cf_auditlogs_by_account_id"]
    assert set(tools[0]) == {"name", "description", "inputSchema"}
    response = wire.legacy("tools/call", {"name": "auditlogs_by_account_id", "arguments": {}})
    assert "not found" in response.text
    response = wire.legacy("tools/call", {"name": "cf_auditlogs_by_account_id", "arguments": {}})
    assert "Invalid arguments for tool cf_auditlogs_by_account_id" in response.text


def test_notifications_and_responses_are_accepted_without_an_answer(wire: Wire) -> None:
    for body in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 5, "result": {}},
        [{"jsonrpc": "2.0", "method": "notifications/initialized"}],
    ):
        response = wire.post(body)
        assert (response.status_code, response.content) == (202, b"")
        assert "content-type" not in response.headers


def test_a_batch_is_answered_in_one_stream(wire: Wire) -> None:
    batch: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": "a", "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "nope"},
    ]
    assert wire.post(batch).text == event('{"result":{},"jsonrpc":"2.0","id":"a"}') + event(
        '{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"Method not found"}}'
    )


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream", ""])
def test_a_client_must_accept_both_content_types(wire: Wire, accept: str) -> None:
    message = "Not Acceptable: Client must accept both application/json and text/event-stream"
    assert refused(wire.legacy("ping", accept=accept)) == (406, -32000, message, None)


def test_the_body_must_be_declared_as_json(wire: Wire) -> None:
    response = wire.legacy("ping", content_type="text/plain")
    message = "Unsupported Media Type: Content-Type must be application/json"
    assert refused(response) == (415, -32000, message, None)


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[NaN]", b"[" * 100_000])
def test_what_is_not_json_is_refused(wire: Wire, body: bytes) -> None:
    assert refused(wire.post(body)) == (400, -32700, "Parse error: Invalid JSON", None)


@pytest.mark.parametrize(
    ("body", "echoed"),
    [
        ({}, None),
        (5, None),
        ({"method": "ping", "id": 1}, 1),
        ({"jsonrpc": "1.0", "id": 7, "method": "ping"}, 7),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, 1.5),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, None),
        ({"jsonrpc": "2.0", "id": "a"}, "a"),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, 1),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "more": 1}, 1),
        ({"jsonrpc": "2.0", "id": 1, "error": 5}, 1),
    ],
)
def test_what_is_not_json_rpc_is_refused_with_its_id(wire: Wire, body: object, echoed: object) -> None:
    message = "Bad Request: the request body is not a valid JSON-RPC message"
    assert refused(wire.post(body)) == (400, -32600, message, echoed)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "empty JSON-RPC batch"),
        ([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, 5], "JSON-RPC batch contains an invalid message"),
    ],
)
def test_a_batch_that_is_none_is_refused(wire: Wire, body: object, problem: str) -> None:
    assert refused(wire.post(body)) == (400, -32600, f"Bad Request: {problem}", None)


@pytest.mark.parametrize(
    ("method", "params", "code", "start", "paths"),
    [
        ("initialize", None, -32603, "", [["params"]]),
        ("initialize", {"protocolVersion": 5}, -32603, "", ["protocolVersion", "capabilities", "clientInfo"]),
        ("tools/call", None, -32602, "Invalid tools/call request: ", [["params"]]),
        ("tools/call", {"name": 5, "arguments": []}, -32602, "Invalid tools/call request: ", ["name", "arguments"]),
        ("tools/list", {"cursor": 5}, -32603, "", ["cursor"]),
    ],
)
def test_parameters_that_do_not_fit_are_listed_as_the_validator_does(
    wire: Wire, method: str, params: dict[str, Any] | None, code: int, start: str, paths: list[Any]
) -> None:
    response = wire.legacy(method, params)
    assert response.status_code == 200
    error = json.loads(response.text.partition("data: ")[2])["error"]
    assert error["code"] == code
    assert error["message"].startswith(f"{start}[\n  {{\n")
    wanted = [path if isinstance(path, list) else ["params", path] for path in paths]
    assert [issue["path"] for issue in json.loads(error["message"].removeprefix(start))] == wanted


def test_an_unknown_version_in_the_header_is_refused_except_to_initialize(wire: Wire) -> None:
    message = f"Bad Request: Unsupported protocol version: 2023-01-01 (supported versions: {ALL_VERSIONS})"
    assert refused(wire.legacy("ping", mcp_protocol_version="2023-01-01")) == (400, -32000, message, None)
    assert wire.legacy("ping", mcp_protocol_version="2025-06-18").status_code == 200
    params = {"protocolVersion": "2025-11-25"}
    assert wire.legacy("initialize", params, mcp_protocol_version="2023-01-01").status_code == 200


def test_a_server_of_the_old_era_knows_no_other(connect: Connect) -> None:
    wire = connect(modern=False)
    message = f"Bad Request: Unsupported protocol version: 2026-07-28 (supported versions: {ALL_VERSIONS})"
    response = wire.modern("server/discover", accept="application/json, text/event-stream")
    assert refused(response) == (400, -32000, message, None)


def test_a_long_call_is_kept_alive_by_comments_after_immediate_headers(connect: Connect) -> None:
    wire = connect(latency_seconds=0.35, keepalive_seconds=0.1)
    arguments = {"since": "2026-10-01", "before": "2026-11-21", "limit": 1}
    params = {"name": "auditlogs_by_account_id", "arguments": arguments}
    headers = {
        "authorization": f"Bearer {wire.token}",
        "accept": "application/json, text/event-stream",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    with wire.http.stream("POST", wire.sandbox.mcp_url, json=body, headers=headers) as response:
        assert response.status_code == 200
        assert wire.sandbox.requests.calls == [], "the headers must be out before the call is done"
        text = response.read().decode()
    comments, _, rest = text.partition("event: message\n")
    said = comments.count(": keepalive\n\n")  # three, fewer on a machine that is busy elsewhere
    assert 1 <= said <= 3
    assert comments == ": keepalive\n\n" * said
    assert rest.startswith("data: ")
    assert wire.sandbox.requests.calls[-1].status == 200


def test_a_client_that_leaves_during_a_call_is_noted_without_a_status(connect: Connect) -> None:
    wire = connect(latency_seconds=30, keepalive_seconds=0.05)
    arguments = {"since": "2026-10-01", "before": "2026-11-21"}
    params = {"name": "auditlogs_by_account_id", "arguments": arguments}
    headers = {
        "authorization": f"Bearer {wire.token}",
        "accept": "application/json, text/event-stream",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    with wire.http.stream("POST", wire.sandbox.mcp_url, json=body, headers=headers) as response:
        next(response.iter_bytes())
    wire.http.close()
    wire.sandbox.__exit__(None, None, None)
    wire.sandbox.__enter__()
    (seen,) = wire.sandbox.requests.calls
    assert (seen.status, seen.tool) == (0, "auditlogs_by_account_id")
