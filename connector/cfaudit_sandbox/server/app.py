"""HTTP request -> answer: the routing of the Audit Logs server, in its order, and the sandbox's own endpoints."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from cfaudit_sandbox.server import legacy, modern
from cfaudit_sandbox.server.answers import NO_STORE, json_answer, origin_of, reflected
from cfaudit_sandbox.server.auditlogs import AuditLogs
from cfaudit_sandbox.server.control import control
from cfaudit_sandbox.server.edge import Drop, Edge
from cfaudit_sandbox.server.identity import NO_TOKEN, UNKNOWN_GRANT, Identities, Refusal, identify
from cfaudit_sandbox.server.requests import RequestLog, SeenRequest
from cfaudit_sandbox.server.rpc import Exchange, Form, HttpReply, McpService, refusal
from cfaudit_sandbox.server.upstream import Caller, Upstream
from cfaudit_sandbox.world.world import World

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MCP_PATHS = ("/mcp", "/sse")
BODY_LIMIT_BYTES = 4 * 1024 * 1024
GRANT_PARTS = 3
AUDITLOGS_FORM = Form()
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


class Authorization(Protocol):
    """The OAuth half of a server: it owns the tokens of the form `a:b:c` and every path that is not MCP's."""

    def caller(self, token: str, request: Request) -> Caller | Refusal:
        """Recognise an access token used at this URL."""

    async def answer(self, request: Request) -> Response:
        """Answer a request for discovery, registration, tokens, or anything else."""


class NoAuthorization:
    """A server without OAuth: no such token is known, nothing is found."""

    def caller(self, _token: str, _request: Request) -> Caller | Refusal:
        """Know no caller."""
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
        edge: what lies before the servers.
        identities: the API tokens that a later generation has recognised.
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
        self.edge = Edge(world, self.upstream, hosts)
        self.identities = Identities(self.upstream)

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
            seen = SeenRequest(self.world.clock(), request.method, path)
            response = await self._answer(request, seen)
            if not isinstance(response, StreamingResponse):
                seen.status = 0 if isinstance(response, Drop) else response.status_code
                self.requests.note(seen)
        await response(scope, receive, send)

    async def _answer(self, request: Request, seen: SeenRequest) -> Response:
        """Route as the server does: hosts and origins, API tokens on every path, then OAuth."""
        path = request.url.path
        early = self._before_auth(request) if path in MCP_PATHS else None
        if early is not None:
            return early
        today = self.world.options.auditlogs_generation == "today"
        token = _bearer(request, any_case=self.world.options.auditlogs_generation == "next")
        if today and token is not None and len(token.split(":")) != GRANT_PARTS:
            caller = identify(self.upstream, token)
        elif not path.startswith(MCP_PATHS):
            return await self.authorization.answer(request)
        else:
            caller = NO_TOKEN if token is None else self.authorization.caller(token, request)
            if caller is UNKNOWN_GRANT and token is not None and not today:
                caller = self.identities.caller(token)
        seen.cost = caller.cost
        if isinstance(caller, Refusal):
            return self._turn_away(caller, request)
        if path not in MCP_PATHS:
            return PlainTextResponse("Not Found", 404, _CORS)
        return await self.speak(self.service, request, caller, seen)

    def _before_auth(self, request: Request) -> Response | None:
        """Answer what needs no credential: failures of the edge, strangers, a path that is gone, preflights."""
        if (failed := self.edge.fails()) is not None:
            return failed
        if (refused := self.edge.refuses(request)) is not None:
            refused.headers.update(_CORS)
            return refused
        if request.url.path == "/sse" and self.world.options.auditlogs_generation == "next":
            return _gone(request)
        return Response(status_code=200, headers=_CORS) if request.method == "OPTIONS" else None

    def _turn_away(self, refused: Refusal, request: Request) -> Response:
        today = self.world.options.auditlogs_generation == "today"
        silent = refused is NO_TOKEN and not today
        headers = dict(NO_STORE)
        if refused.status in (401, 403):
            one = self.world.options.auditlogs_generation == "next" or not request.url.path.startswith(MCP_PATHS)
            metadata = f"{origin_of(request)}/.well-known/oauth-protected-resource"
            metadata += "/mcp" if one else request.url.path
            headers["WWW-Authenticate"] = challenge(refused, metadata, silent=silent)
        if refused.retry_after is not None:
            headers["Retry-After"] = str(refused.retry_after)
        headers |= reflected(request)
        if silent:
            return Response(status_code=refused.status, headers=headers)
        body = {"error": refused.error, "error_description": refused.description}
        return json_answer(body, refused.status, headers)

    async def speak(
        self, service: McpService, request: Request, caller: Caller, seen: SeenRequest, form: Form = AUDITLOGS_FORM
    ) -> Response:
        """Let a caller speak MCP with a service: hand a POST to the era it belongs to."""
        if request.method != "POST":
            return _response(refusal(405, _SERVER_ERROR, "Method not allowed."))
        body = await _read(request, None if form.first else BODY_LIMIT_BYTES)
        if body is None:
            message = f"Request body too large. Maximum size is {BODY_LIMIT_BYTES} bytes"
            return _response(refusal(413, _SERVER_ERROR, message))
        try:
            document: object = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            document = _BAD_JSON
        headers = {name.lower(): value for name, value in request.headers.items()}
        options = self.world.options
        exchange = Exchange(
            service, caller, headers, seen, options.keepalive_seconds, finish=self.requests.note, form=form
        )
        is_modern = options.modern and not form.first and modern.is_modern(headers, document)
        seen.era = "modern" if is_modern else "legacy"
        refused = None if is_modern else legacy.check(headers)
        if refused is None and "application/json" not in headers.get("content-type", ""):
            refused = refusal(415, _SERVER_ERROR, "Unsupported Media Type: Content-Type must be application/json")
        if refused is None and document is _BAD_JSON:
            refused = refusal(400, -32700, "Parse error: Invalid JSON")
        if refused is not None:
            return _response(refused)
        era = modern if is_modern else legacy
        return _response(await era.answer(exchange, document))


def _refuse_constant(name: str) -> None:
    """Refuse NaN and the infinities, which Python reads and JSON does not know."""
    raise ValueError(f"{name} is not JSON")


def _response(reply: HttpReply) -> Response:
    headers = dict(_CORS)
    if reply.content_type:
        headers["Content-Type"] = reply.content_type
    if reply.stream is not None:
        return StreamingResponse(reply.stream, reply.status, headers | _STREAM_HEADERS)
    return Response(reply.body, reply.status, headers)


def challenge(refused: Refusal, metadata: str, *, silent: bool = False) -> str:
    """Write the `WWW-Authenticate` header of a refusal; a silent one says no more than where to find out."""
    found = f'Bearer realm="OAuth", resource_metadata="{metadata}"'
    if silent:
        return found
    found += f', error="{refused.error}"'
    if refused.scope:
        found += f', scope="{refused.scope}"'
    if refused.in_header:
        found += f', error_description="{refused.challenge or refused.description}"'
    return found


def _gone(request: Request) -> Response:
    target = f"{origin_of(request)}/mcp"
    problem = {"type": "about:blank", "title": "Gone", "status": 410, "detail": f"This endpoint has moved to {target}."}
    answer = json_answer(problem, 410, {"Link": f'<{target}>; rel="successor-version"'} | _CORS)
    answer.headers["Content-Type"] = "application/problem+json"
    return answer


def _bearer(request: Request, *, any_case: bool) -> str | None:
    """Read the token of an Authorization header; at first the scheme counted with its capitals."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    token = rest.split(" ")[0]
    known = scheme == "Bearer" or (any_case and scheme.lower() == "bearer")
    return token if known and token else None


async def _read(request: Request, limit: int | None) -> bytes | None:
    """Read a body; none if it is too large."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if limit is not None and size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
