"""HTTP request -> answer of the code-mode server: its one route, who may use it, and the API behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from cfaudit_export.sandbox.app import GRANT_PARTS
from cfaudit_export.sandbox.codemode import CodeMode, Isolates
from cfaudit_export.sandbox.codemode_api import ConnectionLostError
from cfaudit_export.sandbox.identity import Refusal, identify
from cfaudit_export.sandbox.modern import VERSION
from cfaudit_export.sandbox.oauth import OWNER as OAUTH_OWNER
from cfaudit_export.sandbox.requests import Seen
from cfaudit_export.sandbox.upstream import Caller

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from cfaudit_export.sandbox.app import SandboxApp

CODEMODE_PREFIX = "/codemode"
_MCP = f"{CODEMODE_PREFIX}/mcp"
_API = f"{CODEMODE_PREFIX}/client/v4/accounts/"
_LOG = "/logs/audit"


class CodeModeApp:
    """The ASGI application under `/codemode`.

    Attributes:
        isolates: what its calls share, and where they can be made to fail.
    """

    def __init__(self, app: SandboxApp) -> None:
        self._app = app
        self.isolates = Isolates(app.world, app.upstream)
        self._known: dict[str, Caller] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        seen = Seen(self._app.world.clock(), request.method, request.url.path)
        response = await self._answer(request, seen)
        if not isinstance(response, StreamingResponse) and not seen.status:  # a stream notes its own end
            seen.status = response.status_code
            self._app.requests.note(seen)
        await response(scope, receive, send)

    async def _answer(self, request: Request, seen: Seen) -> Response:
        path = request.url.path
        is_api = path.startswith(_API) and path.endswith(_LOG)
        early = self._before_auth(request) if is_api or path == _MCP else Response("Not Found", 404)
        if early is not None:
            return early
        caller = self._authenticated(request)
        if caller is None:
            return Response(status_code=401, headers={"WWW-Authenticate": _challenge(request, "invalid_token")})
        seen.cost = caller.cost
        if isinstance(caller, Refusal):
            return self._turn_away(caller, request)
        if is_api:
            return self._api(request, caller, path.removeprefix(_API).removesuffix(_LOG))
        return await self._speak(request, caller, seen)

    def _before_auth(self, request: Request) -> Response | None:
        if (planned := self._app.upstream.planned("edge")) is not None:
            return Response("<html><body>error code: 1101</body></html>", int(planned[0]), media_type="text/html")
        if (stranger := self._app.stranger(request)) is not None:
            return _rpc_error(403, stranger)
        return Response(status_code=204) if request.method == "OPTIONS" else None

    def _authenticated(self, request: Request) -> Caller | Refusal | None:
        """Recognise who asks; None for nobody."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return None
        if len(token.split(":")) == GRANT_PARTS:
            return self._app.authorization.caller(token, request)
        return self._caller(token)

    def _caller(self, token: str) -> Caller | Refusal:
        """Recognise a token; late generations remember whom they saw."""
        if token in self._known and self._app.world.options.codemode_generation != "G0":
            return self._known[token]
        caller = identify(self._app.upstream, token)
        if isinstance(caller, Caller):
            self._known[token] = Caller(caller.owner, caller.accounts, caller.pinned, may_audit=caller.may_audit)
        return caller

    async def _speak(self, request: Request, caller: Caller, seen: Seen) -> Response:
        first = self._app.world.options.codemode_generation == "G0"
        if first and request.headers.get("mcp-protocol-version") == VERSION:
            return _rpc_error(400, f"Bad Request: Unsupported protocol version: {VERSION}")
        if first and request.method in ("GET", "DELETE"):
            return Response(media_type="text/event-stream" if request.method == "GET" else None)
        service = CodeMode(self.isolates, whole=request.query_params.get("truncateToolResult") == "false")
        response = await self._app.speak(service, request, caller, seen)
        # Late ones keep the status of an answer to a sign-in open, because it may have to become a 403.
        plain = first or caller.owner == OAUTH_OWNER
        return await _as_json(response) if plain and isinstance(response, StreamingResponse) else response

    def _turn_away(self, refused: Refusal, request: Request) -> Response:
        if self._app.world.options.codemode_generation == "G0":
            return JSONResponse({"error": "Failed to fetch user or accounts"}, 401)
        headers = {"Cache-Control": "no-store"}
        if refused.status in (401, 403):
            headers["WWW-Authenticate"] = _challenge(request, refused.error)
        if refused.retry_after is not None:
            headers["Retry-After"] = str(refused.retry_after)
        body = {"error": refused.error, "error_description": refused.description}
        return JSONResponse(body, refused.status, headers)

    def _api(self, request: Request, caller: Caller, account_id: str) -> Response:
        """Answer for Cloudflare's API itself, for whoever runs the snippet or has none."""
        try:
            reply = self.isolates.api.answer(caller, account_id, request.query_params.multi_items())
        except ConnectionLostError:
            return Response(status_code=520)
        return Response(reply.body, reply.status, {"content-type": "application/json", **reply.headers})


def _rpc_error(status: int, message: str) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "error": {"code": -32000, "message": message}, "id": None}, status)


def _challenge(request: Request, error: str) -> str:
    metadata = f"{request.url.scheme}://{request.url.netloc}/.well-known/oauth-protected-resource{_MCP}"
    return f'Bearer realm="OAuth", error="{error}", resource_metadata="{metadata}"'


async def _as_json(response: StreamingResponse) -> Response:
    """Take the one message out of an event stream."""
    chunks = [
        chunk if isinstance(chunk, bytes) else bytes(str(chunk), "utf-8") async for chunk in response.body_iterator
    ]
    (body,) = (line.removeprefix(b"data: ") for line in b"".join(chunks).split(b"\n") if line.startswith(b"data: "))
    return Response(body, response.status_code, media_type="application/json")
