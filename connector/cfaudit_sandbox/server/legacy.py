"""Protocol revisions up to 2025-11-25: answers are event streams, or JSON where a server prefers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from cfaudit_sandbox.server.rpc import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NOT_A_MESSAGE,
    Exchange,
    Form,
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

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05", "2024-10-07")
_SERVER_ERROR = -32000
_PARSE_ERROR = -32700


def check(headers: Mapping[str, str]) -> HttpReply | None:
    """Refuse a POST whose headers do not ask for what comes back."""
    accept = headers.get("accept", "")
    if "application/json" not in accept or "text/event-stream" not in accept:
        message = "Not Acceptable: Client must accept both application/json and text/event-stream"
        return refusal(406, _SERVER_ERROR, message)
    return None


async def answer(exchange: Exchange, document: object) -> HttpReply:
    """Answer a message or a batch of messages."""
    if (refused := _refused(document, exchange.form)) is not None:
        return refused
    batch: list[Any] = document if isinstance(document, list) else [document]
    version = exchange.headers.get("mcp-protocol-version")
    starts = any(message.get("method") == "initialize" for message in batch)
    if version is not None and version not in VERSIONS and not starts:
        message = f"Bad Request: Unsupported protocol version: {version} (supported versions: {', '.join(VERSIONS)})"
        return refusal(400, _SERVER_ERROR, message)
    requests = [message for message in batch if is_request(message)]
    if not requests:
        exchange.seen.method = str(batch[-1].get("method", "")) if batch else ""
        return HttpReply(202, content_type=None)
    if exchange.form.plain:
        bodies = [await _respond(exchange, message) for message in requests]
        return HttpReply(200, b"[" + b",".join(bodies) + b"]" if isinstance(document, list) else bodies[0])
    return HttpReply(200, content_type="text/event-stream", stream=_stream(exchange, requests))


def _refused(document: object, form: Form) -> HttpReply | None:
    """Refuse what is no message, and no batch of messages."""
    batch: list[Any] = document if isinstance(document, list) else [document]
    if all(is_valid(message) for message in batch) and (batch or form.first):
        return None
    if form.first:
        return refusal(400, _PARSE_ERROR, "Parse error: Invalid JSON-RPC message")
    if isinstance(document, list):
        what = "JSON-RPC batch contains an invalid message" if batch else "empty JSON-RPC batch"
        return refusal(400, INVALID_REQUEST, f"Bad Request: {what}")
    return refusal(400, INVALID_REQUEST, NOT_A_MESSAGE, id_of(document))


async def _stream(exchange: Exchange, requests: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Yield one event per request, and a comment line whenever it has been silent for long."""
    exchange.seen.status = 0  # until the last event is out the client may still leave
    running: asyncio.Task[bytes] | None = None
    try:
        for number, message in enumerate(requests, 1):
            running = asyncio.create_task(_respond(exchange, message))
            while not (await asyncio.wait({running}, timeout=exchange.keepalive_seconds))[0]:
                yield b": keepalive\n\n"
            if number == len(requests):
                exchange.seen.status = 200
                exchange.finish(exchange.seen)
            yield b"event: message\ndata: " + running.result() + b"\n\n"
    finally:
        if running is not None and not running.done():
            running.cancel()
        if not exchange.seen.status:
            exchange.finish(exchange.seen)


async def _respond(exchange: Exchange, message: dict[str, Any]) -> bytes:
    exchange.seen.method = message["method"]
    try:
        check_params(message, exchange.form)
        return result_body(message["id"], await _result(exchange, message["method"], message.get("params", {})))
    except RpcError as error:
        exchange.seen.is_error = True
        return error_body(message["id"], error)


async def _result(exchange: Exchange, method: str, params: Mapping[str, Any]) -> bytes:
    service = exchange.service
    if method == "initialize":
        asked = params.get("protocolVersion")
        result = {
            "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
            "capabilities": service.capabilities,
            "serverInfo": service.info,
        }
        words = service.instructions(exchange.caller)
        return members(result | ({"instructions": words} if words else {}))
    if method == "ping":
        return b""
    if method == "tools/list":
        return members({"tools": service.tools(exchange.caller)})
    if method == "tools/call":
        return await call_tool(exchange, params)
    raise RpcError(METHOD_NOT_FOUND, "Method not found")
