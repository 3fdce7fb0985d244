"""Revision 2026-07-28, byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from tests.core.sandbox.conftest import Connect, Wire


TOOL = "auditlogs_by_account_id"
WINDOW = {"since": "2026-10-01", "before": "2026-11-21", "limit": 1}
DISAGREE = "Bad Request: the request headers and body disagree: "
VERSION, CAPABILITIES = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"
INCOMPLETE = (
    "Invalid params: the MCP-Protocol-Version header names protocol revision 2026-07-28, "
    "but the request is missing the required per-request envelope key(s): "
)
MALFORMED = "Invalid _meta envelope for protocol revision 2026-07-28: "
INFO = '"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"auditlogs","version":"1.0.0"}}'
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def error(response: httpx2.Response) -> tuple[int, int, str]:
    body = response.json()
    # What is refused before a method is looked for is written in another order.
    assert list(body) == (["jsonrpc", "error", "id"] if response.status_code == 400 else ["jsonrpc", "id", "error"])
    return response.status_code, body["error"]["code"], body["error"]["message"]


def test_discover_tells_versions_capabilities_and_server(wire: Wire) -> None:
    response = wire.modern("server/discover")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.text == (
        '{"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},'
        f'"resultType":"complete","ttlMs":0,"cacheScope":"private",{INFO}}},"jsonrpc":"2.0","id":1}}'
    )


def test_discover_carries_instructions_where_there_are_several_accounts(connect: Connect) -> None:
    result = connect(accounts=2, events=1).modern("server/discover").json()["result"]
    assert list(result)[:4] == ["supportedVersions", "capabilities", "instructions", "resultType"]


def test_the_list_of_tools_may_not_be_cached(wire: Wire) -> None:
    response = wire.modern("tools/list")
    assert [tool["name"] for tool in response.json()["result"]["tools"]] == [TOOL]
    ending = f'"resultType":"complete","ttlMs":0,"cacheScope":"private",{INFO}}},"jsonrpc":"2.0","id":1}}'
    assert response.text.endswith(ending)


def test_a_call_is_answered_with_plain_json(wire: Wire) -> None:
    response = wire.modern("tools/call", {"name": TOOL, "arguments": WINDOW})
    assert response.headers["content-type"] == "application/json"
    assert "cache-control" not in response.headers
    assert response.text.startswith('{"result":{"content":[{"type":"text","text":"{\\"logs\\":[{')
    assert response.text.endswith(f'"}}],"resultType":"complete",{INFO}}},"jsonrpc":"2.0","id":1}}')


def test_an_error_of_the_tool_is_marked_in_the_result(wire: Wire) -> None:
    wire.sandbox.upstream.fail_next(500)
    response = wire.modern("tools/call", {"name": TOOL, "arguments": WINDOW})
    assert '"}],"isError":true,"resultType":"complete",' in response.text


@pytest.mark.parametrize("method", ["ping", "prompts/list", "resources/list", "logging/setLevel"])
def test_an_unknown_method_is_not_found(wire: Wire, method: str) -> None:
    response = wire.modern(method)
    assert response.status_code == 404
    assert response.text == '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}'


def test_an_unknown_tool_is_an_error_with_status_200(wire: Wire) -> None:
    response = wire.modern("tools/call", {"name": "nope", "arguments": {}})
    assert error(response) == (200, -32602, "Tool nope not found")


def test_the_name_of_the_tool_must_stand_in_the_header_too(wire: Wire) -> None:
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call"}
    body: dict[str, Any] = {"name": TOOL, "arguments": WINDOW, "_meta": META}
    response = wire.legacy("tools/call", body, **headers)
    message = (
        f'Bad Request: the request headers and body disagree: the body carries params.name="{TOOL}" '
        "but the required Mcp-Name header is absent"
    )
    assert error(response) == (400, -32020, message)
    problem = f'the body carries params.name="{TOOL}" but the required Mcp-Name header is absent'
    assert response.json()["error"]["data"] == {"mismatch": {"header": "(missing)", "body": problem}}
    response = wire.modern("tools/call", {"name": TOOL, "arguments": WINDOW}, mcp_name="other")
    problem = f'the body carries params.name="{TOOL}" but the Mcp-Name header names "other"'
    assert error(response) == (400, -32020, f"{DISAGREE}{problem}")
    assert response.json()["error"]["data"] == {"mismatch": {"header": "other", "body": problem}}


@pytest.mark.parametrize(
    ("headers", "sent", "problem"),
    [
        (
            {"mcp_method": "tools/call"},
            "tools/call",
            "the body names method tools/list but the Mcp-Method header names tools/call",
        ),
        (
            {"mcp_protocol_version": "2025-11-25"},
            "2025-11-25",
            "the body envelope names protocol version 2026-07-28 but the MCP-Protocol-Version header names 2025-11-25",
        ),
    ],
)
def test_method_and_version_must_agree_with_their_headers(
    wire: Wire, headers: dict[str, str], sent: str, problem: str
) -> None:
    response = wire.modern("tools/list", **headers)
    assert error(response) == (400, -32020, f"{DISAGREE}{problem}")
    assert response.json()["error"]["data"] == {"mismatch": {"header": sent, "body": problem}}


def test_without_the_header_of_the_method_a_request_is_refused_and_without_that_of_the_version_it_is_not(
    wire: Wire,
) -> None:
    without = wire.legacy("tools/list", {"_meta": META}, mcp_protocol_version="2026-07-28")
    problem = "the body names method tools/list but the required Mcp-Method header is absent"
    assert error(without) == (400, -32020, f"{DISAGREE}{problem}")
    answered = wire.legacy("tools/list", {"_meta": META}, mcp_method="tools/list")
    assert answered.json()["result"]["resultType"] == "complete"


def test_initialize_belongs_to_the_other_era(wire: Wire) -> None:
    response = wire.legacy("initialize", {"protocolVersion": "2026-07-28"}, mcp_protocol_version="2026-07-28")
    problem = "an initialize request (legacy handshake) was sent with a modern MCP-Protocol-Version header"
    assert error(response) == (400, -32020, f"{DISAGREE}{problem}")


@pytest.mark.parametrize(
    ("params", "message", "envelope"),
    [
        (None, f"{INCOMPLETE}_meta", {"missing": ["_meta"]}),
        ({"_meta": {CAPABILITIES: {}}}, f"{INCOMPLETE}{VERSION}", {"missing": [VERSION]}),
        (
            {"_meta": {VERSION: "2026-07-28"}},
            f"{MALFORMED}{CAPABILITIES}: missing",
            {"key": CAPABILITIES, "problem": "missing"},
        ),
        (
            {"_meta": {VERSION: 5, CAPABILITIES: {}}},
            f"{MALFORMED}{VERSION}: Invalid input: expected string, received number",
            {"key": VERSION, "problem": "Invalid input: expected string, received number"},
        ),
    ],
)
def test_the_envelope_is_required(
    wire: Wire, params: dict[str, Any] | None, message: str, envelope: dict[str, Any]
) -> None:
    response = wire.legacy("tools/list", params, mcp_protocol_version="2026-07-28", mcp_method="tools/list")
    assert error(response) == (400, -32602, message)
    assert response.json()["error"]["data"] == {"envelope": envelope}


def test_a_subscription_names_what_it_wants_to_hear(wire: Wire) -> None:
    response = wire.modern("subscriptions/listen")
    assert response.status_code == 200
    assert response.json()["error"]["code"] == -32602


def test_another_modern_version_is_answered_with_the_supported_ones(wire: Wire) -> None:
    meta = META | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    response = wire.legacy(
        "server/discover", {"_meta": meta}, mcp_protocol_version="2099-01-01", mcp_method="server/discover"
    )
    assert response.status_code == 400
    assert response.json()["error"] == {
        "code": -32022,
        "message": "Unsupported protocol version: 2099-01-01",
        "data": {"supported": ["2026-07-28"], "requested": "2099-01-01"},
    }


def test_notifications_are_accepted_without_an_answer(wire: Wire) -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"_meta": META}}
    response = wire.post(body, mcp_protocol_version="2026-07-28")
    assert (response.status_code, response.content) == (202, b"")


def test_a_batch_is_refused(wire: Wire) -> None:
    response = wire.post([{"jsonrpc": "2.0", "id": 1, "method": "ping"}], mcp_protocol_version="2026-07-28")
    message = "Bad Request: JSON-RPC batches may not contain requests for protocol revision 2026-07-28 or later"
    assert error(response) == (400, -32600, message)


def test_a_subscription_is_acknowledged_and_stays_open(connect: Connect) -> None:
    wire = connect(keepalive_seconds=0.05)
    headers = {
        "authorization": f"Bearer {wire.token}",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "subscriptions/listen",
    }
    params = {"notifications": {"toolsListChanged": True}, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    with wire.http.stream("POST", wire.sandbox.mcp_url, json=body, headers=headers) as response:
        assert response.headers["content-type"] == "text/event-stream"
        chunks = response.iter_text()
        assert '"method":"notifications/subscriptions/acknowledged"' in next(chunks)
        assert next(chunks) == ": keepalive\n\n"
