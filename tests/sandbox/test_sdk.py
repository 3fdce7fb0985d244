"""The MCP SDK as client: what real programs see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from tests.core.sandbox.conftest import Connect, Wire


TOOL = "auditlogs_by_account_id"
WINDOW = {"since": "2026-10-01", "before": "2026-11-21", "direction": "asc"}


def run(wire: Wire, mode: str, talk: Callable[[Client], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        headers = {"authorization": f"Bearer {wire.token}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(wire.sandbox.mcp_url, http_client=http), mode=mode) as client,
        ):
            return await talk(client)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("mode", "modern", "negotiated"),
    [("auto", True, "2026-07-28"), ("legacy", True, "2025-11-25"), ("auto", False, "2025-11-25")],
)
def test_a_client_negotiates_lists_and_walks(connect: Connect, mode: str, modern: bool, negotiated: str) -> None:  # noqa: FBT001  # pytest passes it by name
    wire = connect(modern=modern, events=1_000)

    async def talk(client: Client) -> list[dict[str, Any]]:
        assert client.protocol_version == negotiated
        assert [tool.name for tool in (await client.list_tools()).tools] == [TOOL]
        rows: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            arguments = WINDOW | {"limit": 300} | ({"cursor": cursor} if cursor else {})
            result = await client.call_tool(TOOL, arguments)
            assert not result.is_error
            page = json.loads(result.content[0].text)
            rows += page["logs"]
            cursor = page["result_info"].get("cursor")
        return rows

    assert run(wire, mode, talk) == list(wire.world.rows(wire.world.accounts[0].id))
    assert len(wire.sandbox.requests.calls) == 4


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_sees_tool_errors_as_results_and_unknown_tools_as_errors(connect: Connect, mode: str) -> None:
    wire = connect(poison=("api-context=1",))

    async def talk(client: Client) -> None:
        await client.list_tools()
        result = await client.call_tool(TOOL, WINDOW | {"limit": 1000})
        assert result.is_error
        assert "api_key" in result.content[0].text
        with pytest.raises(MCPError, match="Tool nope not found"):
            await client.call_tool("nope", {})

    run(wire, mode, talk)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_throttled_client_loses_the_call_but_not_the_session(connect: Connect, mode: str) -> None:
    wire = connect()

    async def talk(client: Client) -> None:
        await client.list_tools()
        wire.sandbox.upstream.fail_next(429, where="probe")
        with pytest.raises(MCPError):
            await client.call_tool(TOOL, WINDOW)
        assert not (await client.call_tool(TOOL, WINDOW)).is_error

    run(wire, mode, talk)
