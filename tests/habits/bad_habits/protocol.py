"""MCP over HTTP: one POST in, one answer out, in both eras."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bad_habits.answers import Answer
from bad_habits.log import World, text
from bad_habits.tools import Said

MODERN = "2026-07-28"
_LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
_META = "io.modelcontextprotocol/"
SESSION = "Mcp-Session-Id"


def is_modern(headers: Mapping[str, str], message: Mapping[str, Any]) -> bool:
    meta = (message.get("params") or {}).get("_meta") or {}
    return headers.get("mcp-protocol-version") == MODERN or f"{_META}protocolVersion" in meta


def answer(
    world: World,
    headers: Mapping[str, str],
    message: Mapping[str, Any],
    tool: Mapping[str, Any],
    call: Callable[[Mapping[str, Any]], Said],
) -> Answer:
    """Answer one JSON-RPC message; `call` runs the tool."""
    if is_modern(headers, message):
        if world.eras == "legacy":
            return error(400, message, -32000, f"Bad Request: Unsupported protocol version: {MODERN}")
        return _modern(message, tool, call)
    if world.eras == "modern":
        data = {"supported": [MODERN], "requested": "2025-11-25"}
        return error(400, message, -32022, "Unsupported protocol version", data)
    return _legacy(world, message, tool, call)


def error(status: int, message: Mapping[str, Any], code: int, words: str, data: Any = None) -> Answer:
    body = {"code": code, "message": words, **({} if data is None else {"data": data})}
    return Answer(status, text({"jsonrpc": "2.0", "id": message.get("id"), "error": body}).encode())


def spoken(said: Said) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said.text}], **({"isError": True} if said.is_error else {})}


def _modern(message: Mapping[str, Any], tool: Mapping[str, Any], call: Callable[..., Said]) -> Answer:
    if "id" not in message:
        return Answer(202, kind="")
    method = message["method"]
    cached = {"ttlMs": 0, "cacheScope": "private"}
    if method == "tools/call":
        result = spoken(call(message["params"]))
    elif method == "tools/list":
        result = {"tools": [tool], **cached}
    elif method == "server/discover":
        result = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, **cached}
    else:
        return error(404, message, -32601, "Method not found")
    result |= {"resultType": "complete", "_meta": {f"{_META}serverInfo": {"name": "bad habits", "version": "1"}}}
    return Answer(body=_reply(message, result))


def _legacy(world: World, message: Mapping[str, Any], tool: Mapping[str, Any], call: Callable[..., Said]) -> Answer:
    if "id" not in message:
        return Answer(202, kind="")
    method = message["method"]
    if method == "initialize":
        asked = message["params"].get("protocolVersion")
        result: dict[str, Any] = {
            "protocolVersion": asked if asked in _LEGACY else _LEGACY[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "bad habits", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": [tool]}
    elif method == "tools/call":
        result = spoken(call(message["params"]))
    elif method == "ping":
        result = {}
    else:
        return _stream(
            world,
            text(
                {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "Method not found"}}
            ).encode(),
        )
    return _stream(world, _reply(message, result))


def _reply(message: Mapping[str, Any], result: Mapping[str, Any]) -> bytes:
    return json.dumps({"result": result, "jsonrpc": "2.0", "id": message["id"]}, separators=(",", ":")).encode()


def _stream(world: World, body: bytes) -> Answer:
    if world.plain:
        return Answer(body=body)
    return Answer(body=b"event: message\ndata: " + body + b"\n\n", kind="text/event-stream", chunked=True)
