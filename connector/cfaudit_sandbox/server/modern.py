"""Protocol revision 2026-07-28: every request carries its envelope, every answer is plain JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from cfaudit_sandbox.server.rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NOT_A_MESSAGE,
    Exchange,
    HttpReply,
    RpcError,
    call_tool,
    check_params,
    error_body,
    id_of,
    is_request,
    is_valid,
    members,
    refusal,
    result_body,
)
from cfaudit_sandbox.world.schema import ABSENT, js_type
from cfaudit_sandbox.world.text import js

VERSION = "2026-07-28"
_META = "io.modelcontextprotocol/"
_VERSION_KEY = f"{_META}protocolVersion"
_CAPABILITIES_KEY = f"{_META}clientCapabilities"
_LAST_LEGACY = "2025-11-25"
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_HEADER_MISMATCH = -32020
_UNSUPPORTED_VERSION = -32022
_NO_BATCH = "Bad Request: JSON-RPC batches may not contain requests for protocol revision 2026-07-28 or later"
_STATUS = {METHOD_NOT_FOUND: 404}


def is_modern(headers: Mapping[str, str], document: object) -> bool:
    """Tell whether a message belongs to this era: its header or its envelope says so. Responses never do."""
    if isinstance(document, dict) and "method" not in document and ("result" in document or "error" in document):
        return False
    named = headers.get("mcp-protocol-version", "")
    later = _DATE.fullmatch(named) is not None and named > _LAST_LEGACY
    return later or _VERSION_KEY in _envelope(document)


def _envelope(document: object) -> Mapping[str, Any]:
    params = document.get("params") if isinstance(document, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


async def answer(exchange: Exchange, document: object) -> HttpReply:
    """Answer one message."""
    if not is_valid(document) or not isinstance(document, dict):
        message = _NO_BATCH if isinstance(document, list) else NOT_A_MESSAGE
        return refusal(400, INVALID_REQUEST, message, id_of(document))
    exchange.seen.method = str(document.get("method", ""))
    if not is_request(document):
        return HttpReply(202, content_type=None)
    try:
        _check(exchange.headers, document)
    except RpcError as error:
        exchange.seen.is_error = True
        return refusal(400, error.code, error.message, document["id"], error.data)
    try:
        if document["method"] == "subscriptions/listen":
            return _subscription(exchange, document)
        return HttpReply(200, result_body(document["id"], await _result(exchange, document)))
    except RpcError as error:
        exchange.seen.is_error = True
        return HttpReply(_STATUS.get(error.code, 200), error_body(document["id"], error))


def _check(headers: Mapping[str, str], message: Mapping[str, Any]) -> None:
    """Compare the headers with the body.

    Raises:
        RpcError: they disagree, the envelope is not complete, or the version is not spoken here.
    """
    method, named = message["method"], headers.get("mcp-protocol-version")
    if method == "initialize" and named is not None:
        problem = "an initialize request (legacy handshake) was sent with a modern MCP-Protocol-Version header"
        raise _mismatch(named, problem)
    version = _version(message, named)
    if named is not None and named != version:
        problem = f"the body envelope names protocol version {version} but the MCP-Protocol-Version header names"
        raise _mismatch(named, f"{problem} {named}")
    if (sent := headers.get("mcp-method")) != method:
        said = "the required Mcp-Method header is absent" if sent is None else f"the Mcp-Method header names {sent}"
        raise _mismatch(sent, f"the body names method {method} but {said}")
    key = _NAMED.get(method)
    value = message["params"].get(key) if key else None
    if isinstance(value, str) and (sent := headers.get("mcp-name")) != value:
        said = "the required Mcp-Name header is absent" if sent is None else f"the Mcp-Name header names {js(sent)}"
        raise _mismatch(sent, f"the body carries params.{key}={js(value)} but {said}")
    if version != VERSION:
        data = {"supported": [VERSION], "requested": version}
        raise RpcError(_UNSUPPORTED_VERSION, f"Unsupported protocol version: {version}", data)


def _version(message: Mapping[str, Any], named: str | None) -> str:
    """Read the version out of an envelope that is complete.

    Raises:
        RpcError: it is not.
    """
    meta = _envelope(message)
    if _VERSION_KEY not in meta:
        missing = [_VERSION_KEY] if meta else ["_meta"]
        problem = f"the request is missing the required per-request envelope key(s): {missing[0]}"
        said = f"Invalid params: the MCP-Protocol-Version header names protocol revision {named}, but {problem}"
        raise RpcError(INVALID_PARAMS, said, {"envelope": {"missing": missing}})
    for key, kind in ((_VERSION_KEY, "string"), (_CAPABILITIES_KEY, "object")):
        found = js_type(meta.get(key, ABSENT))
        if found != kind:
            problem = "missing" if found == "undefined" else f"Invalid input: expected {kind}, received {found}"
            said = f"Invalid _meta envelope for protocol revision {VERSION}: {key}: {problem}"
            raise RpcError(INVALID_PARAMS, said, {"envelope": {"key": key, "problem": problem}})
    return str(meta[_VERSION_KEY])


def _mismatch(sent: str | None, problem: str) -> RpcError:
    message = f"Bad Request: the request headers and body disagree: {problem}"
    header = "(missing)" if sent is None else sent
    return RpcError(_HEADER_MISMATCH, message, {"mismatch": {"header": header, "body": problem}})


async def _result(exchange: Exchange, message: Mapping[str, Any]) -> bytes:
    service, method = exchange.service, message["method"]
    check_params(message, exchange.form)
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


def _subscription(exchange: Exchange, message: Mapping[str, Any]) -> HttpReply:
    wanted = message["params"].get("notifications")
    if not isinstance(wanted, dict):
        problem = "Invalid params: 'notifications' is required and must be a valid SubscriptionFilter"
        return refusal(200, INVALID_PARAMS, problem, message["id"])
    return HttpReply(200, content_type="text/event-stream", stream=_listen(exchange, message["id"], wanted))


async def _listen(exchange: Exchange, message_id: object, wanted: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Acknowledge a subscription, then stay open without a word: the tools never change."""
    exchange.finish(exchange.seen)
    granted = {"toolsListChanged": True} if wanted.get("toolsListChanged") else {}
    params = {"notifications": granted, "_meta": {f"{_META}subscriptionId": message_id}}
    note = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}
    yield b"event: message\ndata: " + js(note).encode() + b"\n\n"
    while True:
        await asyncio.sleep(exchange.keepalive_seconds)
        yield b": keepalive\n\n"
