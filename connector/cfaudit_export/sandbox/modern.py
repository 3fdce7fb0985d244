"""Protocol revision 2026-07-28: every request carries its envelope, every answer is plain JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from cfaudit_export.sandbox.rpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Exchange,
    Reply,
    RpcError,
    call_tool,
    error_body,
    is_request,
    is_valid,
    members,
    refusal,
    result_body,
)
from cfaudit_export.sandbox.text import js

VERSION = "2026-07-28"
_META = "io.modelcontextprotocol/"
_VERSION_KEY = f"{_META}protocolVersion"
_REQUIRED_KEYS = (_VERSION_KEY, f"{_META}clientCapabilities")
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_HEADER_MISMATCH = -32020
_UNSUPPORTED_VERSION = -32022
_STATUS = {METHOD_NOT_FOUND: 404}


def is_modern(headers: Mapping[str, str], document: object) -> bool:
    """Tell whether a message belongs to this era: its header or its envelope says so."""
    return headers.get("mcp-protocol-version") == VERSION or _VERSION_KEY in _envelope(document)


def _envelope(document: object) -> Mapping[str, Any]:
    params = document.get("params") if isinstance(document, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


async def answer(exchange: Exchange, document: object) -> Reply:
    """Answer one message."""
    if not is_valid(document) or not isinstance(document, dict):
        return refusal(400, -32600, "Bad Request: the request body is not a valid JSON-RPC message")
    exchange.seen.method = str(document.get("method", ""))
    if not is_request(document):
        return Reply(202, content_type=None)
    try:
        _check(exchange.headers, document)
    except RpcError as error:
        exchange.seen.is_error = True
        return Reply(400, error_body(document["id"], error))
    if document["method"] == "subscriptions/listen":
        return Reply(200, content_type="text/event-stream", stream=_listen(exchange, document))
    try:
        return Reply(200, result_body(document["id"], await _result(exchange, document)))
    except RpcError as error:
        exchange.seen.is_error = True
        return Reply(_STATUS.get(error.code, 200), error_body(document["id"], error))


def _check(headers: Mapping[str, str], message: Mapping[str, Any]) -> None:
    """Compare the headers with the body.

    Raises:
        RpcError: they disagree, the envelope is not complete, or the version is not spoken here.
    """
    meta, method = _envelope(message), message["method"]
    named = headers.get("mcp-protocol-version")
    if method == "initialize":
        raise _mismatch("MCP-Protocol-Version", named, "method", method)
    missing = [key for key in _REQUIRED_KEYS if key not in meta]
    if missing:
        keys = ", ".join(missing) if meta else "_meta"
        raise RpcError(
            INVALID_PARAMS,
            f"Invalid params: the MCP-Protocol-Version header names protocol revision {named}, "
            f"but the request is missing the required per-request envelope key(s): {keys}",
        )
    version = meta[_VERSION_KEY]
    if named != version:
        raise _mismatch("MCP-Protocol-Version", named, f"_meta.{_VERSION_KEY}", version)
    if headers.get("mcp-method") != method:
        raise _mismatch("Mcp-Method", headers.get("mcp-method"), "method", method)
    if (key := _NAMED.get(method)) is not None:
        value = message["params"].get(key)
        if headers.get("mcp-name") != value:
            raise _mismatch("Mcp-Name", headers.get("mcp-name"), f"params.{key}", value)
    if version != VERSION:
        data = {"supported": [VERSION], "requested": version}
        raise RpcError(_UNSUPPORTED_VERSION, f"Unsupported protocol version: {version}", data)


def _mismatch(header: str, sent: str | None, field: str, value: object) -> RpcError:
    said = f"the required {header} header is absent" if sent is None else f"the {header} header carries {js(sent)}"
    message = f"Bad Request: the request headers and body disagree: the body carries {field}={js(value)} but {said}"
    return RpcError(_HEADER_MISMATCH, message, {"mismatch": {"header": sent, "body": value}})


async def _result(exchange: Exchange, message: Mapping[str, Any]) -> bytes:
    service, method = exchange.service, message["method"]
    if method == "tools/call":
        return await call_tool(exchange, message["params"]) + _ending(exchange)
    if method == "tools/list":
        return members({"tools": service.tools(exchange.caller)}) + _ending(exchange, cached=True)
    if method == "server/discover":
        words = service.instructions(exchange.caller)
        result = {"supportedVersions": [VERSION], "capabilities": service.capabilities}
        return members(result | ({"instructions": words} if words else {})) + _ending(exchange, cached=True)
    raise RpcError(METHOD_NOT_FOUND, "Method not found")


def _ending(exchange: Exchange, *, cached: bool = False) -> bytes:
    """Write what every result ends with."""
    result: dict[str, Any] = {"resultType": "complete"}
    if cached:
        result |= {"ttlMs": 0, "cacheScope": "private"}
    return b"," + members(result | {"_meta": {f"{_META}serverInfo": exchange.service.info}})


async def _listen(exchange: Exchange, message: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Acknowledge a subscription, then stay open without a word: the tools never change."""
    exchange.finish(exchange.seen)
    meta = {f"{_META}subscriptionId": message["id"]}
    wanted = message["params"].get("notifications")
    granted = {"toolsListChanged": True} if isinstance(wanted, dict) and wanted.get("toolsListChanged") else {}
    params = {"notifications": granted, "_meta": meta}
    note = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}
    yield b"event: message\ndata: " + js(note).encode() + b"\n\n"
    while True:
        await asyncio.sleep(exchange.keepalive_seconds)
        yield b": keepalive\n\n"
