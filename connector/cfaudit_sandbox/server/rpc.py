"""What both eras of the protocol share: JSON-RPC messages, their errors, and the calls of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from cfaudit_sandbox.server.pages import ToolText
from cfaudit_sandbox.server.requests import SeenRequest
from cfaudit_sandbox.server.upstream import Caller
from cfaudit_sandbox.world.schema import ABSENT, Free, Shape, Text, issues, zod4
from cfaudit_sandbox.world.text import js, js_pretty

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
NOT_A_MESSAGE = "Bad Request: the request body is not a valid JSON-RPC message"
CHANGING_TOOLS: Mapping[str, Any] = {"tools": {"listChanged": True}}


class RpcError(Exception):
    """A request that is answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP answer: a body, or a stream of chunks."""

    status: int
    body: bytes = b""
    content_type: str | None = "application/json"
    stream: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the MCP library of a server answers.

    Attributes:
        plain: the 2025 revisions are answered with JSON, not with an event stream.
        first: it is the library of the first code-mode server: no revision after 2025, no limit of a body, and
            other codes for messages and parameters that are none.
    """

    plain: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """One POST: who asks which service, with what headers (names in lower case); `finish` logs it once answered."""

    service: McpService
    caller: Caller
    headers: Mapping[str, str]
    seen: SeenRequest
    keepalive_seconds: float
    finish: Callable[[SeenRequest], None] = field(repr=False)
    form: Form = Form()  # frozen


class McpService(Protocol):
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
    """Tell whether a value is a JSON-RPC request, notification or response; no other members are taken."""
    if not _is_message(message):
        return False
    body = cast("dict[str, Any]", message)
    names = body.keys() - {"jsonrpc"}
    if "id" in body and (isinstance(body["id"], bool) or not isinstance(body["id"], str | int)):
        return False
    if "method" in body:
        params = body.get("params", {})
        return names <= {"id", "method", "params"} and isinstance(body["method"], str) and isinstance(params, dict)
    if names == {"id", "result"}:
        return isinstance(body["result"], dict)
    return names == {"id", "error"} and isinstance(body["error"], dict)


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0"


def id_of(message: object) -> object:
    """Return the id to answer a refused message with, which need not be one that JSON-RPC allows."""
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def refusal(status: int, code: int, message: str, message_id: object = None, data: object = None) -> HttpReply:
    """Answer an HTTP request that did not get as far as the service."""
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return HttpReply(status, js({"jsonrpc": "2.0", "error": error, "id": message_id}).encode())


_INITIALIZE = Shape(
    (
        ("protocolVersion", Text()),
        ("capabilities", Shape(())),
        ("clientInfo", Shape((("name", Text()), ("version", Text())), ("name", "version"))),
    ),
    ("protocolVersion", "capabilities", "clientInfo"),
)
_CALL = Shape((("name", Text()), ("arguments", Free())), ("name",))
_LIST = Shape((("cursor", Text()),))
_PARAMS = {"initialize": (_INITIALIZE, True), "tools/call": (_CALL, True), "tools/list": (_LIST, False)}


def check_params(message: Mapping[str, Any], form: Form) -> None:
    """Check the parameters of a request as the library does that the server is made of.

    Raises:
        RpcError: what is wrong, in the words of its validator.
    """
    method = message["method"]
    shape, required = _PARAMS.get(method, (Shape(()), False))
    found = [] if "params" not in message and not required else _issues(shape, message.get("params", ABSENT))
    if found and method == "tools/call" and not form.first:
        raise RpcError(INVALID_PARAMS, f"Invalid tools/call request: {js_pretty(found)}")
    if found:
        raise RpcError(INTERNAL_ERROR, js_pretty(found))


def _issues(shape: Shape, params: object) -> list[dict[str, Any]]:
    return [zod4(issue) for issue in issues(shape, params, ("params",))]


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
        RpcError: no tool has the name.
    """
    name, arguments = params["name"], params.get("arguments", {})
    exchange.seen.tool, exchange.seen.arguments = name, arguments
    text = await exchange.service.call(name, arguments, exchange)
    if text is None:
        raise RpcError(INVALID_PARAMS, f"Tool {name} not found")
    exchange.seen.is_error = text.is_error
    end = b'"}],"isError":true' if text.is_error else b'"}]'
    return b'"content":[{"type":"text","text":"' + text.escaped + end
