"""HTTP request -> answer: the routing of the Audit Logs server, in its order, and the sandbox's own endpoints."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from cfaudit_export.sandbox import legacy, modern
from cfaudit_export.sandbox.auditlogs import AuditLogs
from cfaudit_export.sandbox.control import control
from cfaudit_export.sandbox.identity import NO_TOKEN, UNKNOWN_GRANT, Refusal, identify
from cfaudit_export.sandbox.requests import RequestLog, Seen
from cfaudit_export.sandbox.rpc import Exchange, Reply, Service, refusal
from cfaudit_export.sandbox.text import js
from cfaudit_export.sandbox.upstream import Caller, Upstream
from cfaudit_export.sandbox.world import World

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MCP_PATHS = ("/mcp", "/sse")
BODY_LIMIT_BYTES = 4 * 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_SERVICE_HOSTS = ("auditlogs.mcp.cloudflare.com", "mcp.cloudflare.com", "staging.mcp.cloudflare.com")
_PLAYGROUND = "playground.ai.cloudflare.com"
GRANT_PARTS = 3
_BAD_JSON = object()
_SERVER_ERROR = -32000
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Content-Type, Accept, Authorization, MCP-Protocol-Version, "
    "Mcp-Method, Mcp-Name, cf-account-id",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Expose-Headers": "MCP-Protocol-Version",
    "Access-Control-Max-Age": "86400",
}
_STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class Authorization(Protocol):
    """The OAuth half of a server: it owns the tokens of the form `a:b:c` and every path that is not MCP's."""

    def caller(self, token: str, request: Request) -> Caller | Refusal:
        """Recognise an access token used at this URL."""

    async def answer(self, request: Request) -> Response:
        """Answer a request for discovery, registration, tokens, or anything else."""


class NoAuthorization:
    """A server without OAuth: no such token is known, nothing is found."""

    def caller(self, _token: str, _request: Request) -> Caller | Refusal:
        """Know nobody."""
        return UNKNOWN_GRANT

    async def answer(self, _request: Request) -> Response:
        """Find nothing."""
        return PlainTextResponse("404 Not Found", 404)


class SandboxApp:
    """The ASGI application of a sandbox.

    Attributes:
        world: the data and the options.
        requests: what was asked.
        upstream: the emulated Cloudflare API.
        authorization: the OAuth half.
        mounts: further servers by path prefix; they may share all of the above.
    """

    def __init__(
        self, world: World, *, authorization: Authorization | None = None, hosts: Collection[str] = ()
    ) -> None:
        self.world = world
        self.first_options = world.options
        self.requests = RequestLog()
        self.upstream = Upstream(world)
        self.service = AuditLogs(world, self.upstream)
        self.authorization = authorization or NoAuthorization()
        self.mounts: dict[str, ASGIApp] = {}
        self._hosts = frozenset((*_LOOPBACK, *_SERVICE_HOSTS, *hosts, *world.options.allowed_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope["path"]
        for prefix, mounted in self.mounts.items():
            if path.startswith(prefix):
                await mounted(scope, receive, send)
                return
        request = Request(scope, receive)
        if path == "/sandbox" or path.startswith("/sandbox/"):
            response = await control(self, request)
        else:
            seen = Seen(self.world.clock(), request.method, path)
            response = await self._answer(request, seen)
            if not isinstance(response, StreamingResponse):
                seen.status = response.status_code
                self.requests.note(seen)
        await response(scope, receive, send)

    async def _answer(self, request: Request, seen: Seen) -> Response:
        """Route as the server does: hosts and origins, API tokens on every path, then OAuth."""
        path = request.url.path
        early = self._before_auth(request) if path in MCP_PATHS else None
        if early is not None:
            return early
        token = _bearer(request)
        if token is not None and len(token.split(":")) != GRANT_PARTS:
            caller = identify(self.upstream, token)
        elif not path.startswith(MCP_PATHS):
            return await self.authorization.answer(request)
        else:
            caller = NO_TOKEN if token is None else self.authorization.caller(token, request)
        seen.cost = caller.cost
        if isinstance(caller, Refusal):
            return _turn_away(caller, request)
        if path not in MCP_PATHS:
            return PlainTextResponse("Not Found", 404)
        return await self.speak(self.service, request, caller, seen)

    def _before_auth(self, request: Request) -> Response | None:
        """Answer what is answered whoever asks: planned failures of the edge, strangers, preflights."""
        if (planned := self.upstream.planned("edge")) is not None:
            page = "<html><body>error code: 1101</body></html>"
            return Response(page, int(planned[0]), media_type="text/html")
        if (stranger := self.stranger(request)) is not None:
            return _response(refusal(403, _SERVER_ERROR, stranger), cors=False)
        return Response(status_code=200, headers=_CORS) if request.method == "OPTIONS" else None

    def stranger(self, request: Request) -> str | None:
        """Find a Host or Origin that the server does not answer to, against DNS rebinding."""
        host = _hostname(f"//{request.headers.get('host', '')}")
        if host not in self._hosts:
            return f"Invalid Host: {host}"
        origin = request.headers.get("origin")
        if origin is not None and _hostname(origin) not in (*self._hosts, _PLAYGROUND):
            return f"Invalid Origin: {_hostname(origin)}"
        return None

    async def speak(self, service: Service, request: Request, caller: Caller, seen: Seen) -> Response:
        """Let a caller speak MCP with a service: hand a POST to the era it belongs to."""
        if request.method != "POST":
            return _response(refusal(405, _SERVER_ERROR, "Method not allowed."))
        body = await _read(request)
        if body is None:
            message = f"Request body too large. Maximum size is {BODY_LIMIT_BYTES} bytes"
            return _response(refusal(413, _SERVER_ERROR, message))
        try:
            document: object = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            document = _BAD_JSON
        headers = {name.lower(): value for name, value in request.headers.items()}
        options = self.world.options
        exchange = Exchange(service, caller, headers, seen, options.keepalive_seconds, finish=self.requests.note)
        is_modern = options.modern and modern.is_modern(headers, document)
        seen.era = "modern" if is_modern else "legacy"
        refused = None if is_modern else legacy.check(headers)
        if refused is None and "application/json" not in headers.get("content-type", ""):
            refused = refusal(415, _SERVER_ERROR, "Unsupported Media Type: Content-Type must be application/json")
        if refused is None and document is _BAD_JSON:
            refused = refusal(400, -32700, "Parse error: Invalid JSON")
        if refused is not None:
            return _response(refused)
        return _response(await modern.answer(exchange, document) if is_modern else legacy.answer(exchange, document))


def _refuse_constant(name: str) -> None:
    """Refuse NaN and the infinities, which Python reads and JSON does not know."""
    raise ValueError(f"{name} is not JSON")


def _response(reply: Reply, *, cors: bool = True) -> Response:
    headers = dict(_CORS) if cors else {}
    if reply.content_type:
        headers["Content-Type"] = reply.content_type
    if reply.stream is not None:
        return StreamingResponse(reply.stream, reply.status, headers | _STREAM_HEADERS)
    return Response(reply.body, reply.status, headers)


def _turn_away(refused: Refusal, request: Request) -> Response:
    headers = dict(_NO_STORE)
    if refused.status in (401, 403):
        metadata = f"{request.url.scheme}://{request.url.netloc}/.well-known/oauth-protected-resource/mcp"
        challenge = f'Bearer realm="OAuth", resource_metadata="{metadata}", error="{refused.error}"'
        if refused.in_header:
            challenge += f', error_description="{refused.challenge or refused.description}"'
        headers["WWW-Authenticate"] = challenge
    if refused.retry_after is not None:
        headers["Retry-After"] = str(refused.retry_after)
    if "origin" in request.headers:
        headers |= _CORS
    headers["Content-Type"] = "application/json"
    return Response(js({"error": refused.error, "error_description": refused.description}), refused.status, headers)


def _bearer(request: Request) -> str | None:
    """Read the token of an Authorization header; the scheme counts with its capitals."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    token = rest.split(" ")[0]
    return token if scheme == "Bearer" and token else None


def _hostname(url: str) -> str:
    """Take the host out of a URL, IPv6 addresses in brackets."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return url
    return f"[{host}]" if ":" in host else host


async def _read(request: Request) -> bytes | None:
    """Read a body; none if it is too large."""
    if int(request.headers.get("content-length") or 0) > BODY_LIMIT_BYTES:
        return None
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
