"""What both eras of the protocol share: JSON-RPC messages, their errors, and the calls of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from cfaudit_export.sandbox.pages import ToolText
from cfaudit_export.sandbox.requests import Seen
from cfaudit_export.sandbox.text import js
from cfaudit_export.sandbox.upstream import Caller

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
CHANGING_TOOLS: Mapping[str, Any] = {"tools": {"listChanged": True}}


class RpcError(Exception):
    """A request that is answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: a body, or a stream of chunks."""

    status: int
    body: bytes = b""
    content_type: str | None = "application/json"
    stream: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One POST: who asks which service, with what headers (names in lower case); `finish` logs it once answered."""

    service: Service
    caller: Caller
    headers: Mapping[str, str]
    seen: Seen
    keepalive_seconds: float
    finish: Callable[[Seen], None] = field(repr=False)


class Service(Protocol):
    """What the transport must know of an MCP server."""

    @property
    def info(self) -> Mapping[str, str]:
        """Its name and version."""

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """What it says it can do."""

    def instructions(self, caller: Caller) -> str | None:
        """Words for the model, if there are any for this caller."""

    def tools(self, caller: Caller) -> list[dict[str, Any]]:
        """List the tools that this caller is offered."""

    async def call(self, name: str, arguments: Mapping[str, Any], exchange: Exchange) -> ToolText | None:
        """Call a tool; none if there is no such tool. Adds what it cost to `exchange.seen`."""


def is_request(message: object) -> bool:
    """Tell whether a message wants an answer."""
    return (
        _is_message(message) and "method" in cast("dict[str, Any]", message) and "id" in cast("dict[str, Any]", message)
    )


def is_valid(message: object) -> bool:
    """Tell whether a value is a JSON-RPC request, notification or response."""
    if not _is_message(message):
        return False
    body = cast("dict[str, Any]", message)
    if "id" in body and (isinstance(body["id"], bool) or not isinstance(body["id"], str | int)):
        return False
    if "method" in body:
        return isinstance(body["method"], str) and isinstance(body.get("params", {}), dict)
    return "id" in body and ("result" in body or "error" in body)


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0"


def refusal(status: int, code: int, message: str) -> Reply:
    """Answer an HTTP request that did not get as far as a JSON-RPC message."""
    return Reply(status, js({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": None}).encode())


def error_body(message_id: object, error: RpcError) -> bytes:
    """Write the error answer to a message."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return js({"jsonrpc": "2.0", "id": message_id, "error": body}).encode()


def result_body(message_id: object, members: bytes) -> bytes:
    """Write the result answer to a message; `members` is the inside of the result object."""
    return b'{"result":{' + members + b'},"jsonrpc":"2.0","id":' + js(message_id).encode() + b"}"


def members(body: Mapping[str, Any]) -> bytes:
    """Write the inside of a JSON object."""
    return js(dict(body))[1:-1].encode()


async def call_tool(exchange: Exchange, params: Mapping[str, Any]) -> bytes:
    """Call a tool and write the inside of the result.

    Raises:
        RpcError: the parameters are no tool call, or no tool has the name.
    """
    name, arguments = params.get("name"), params.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "Invalid params for tools/call")
    exchange.seen.tool, exchange.seen.arguments = name, arguments
    text = await exchange.service.call(name, arguments, exchange)
    if text is None:
        raise RpcError(INVALID_PARAMS, f"Tool {name} not found")
    exchange.seen.is_error = text.is_error
    end = b'"}],"isError":true' if text.is_error else b'"}]'
    return b'"content":[{"type":"text","text":"' + text.escaped + end
