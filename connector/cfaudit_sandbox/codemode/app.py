"""HTTP request -> answer of the code-mode server: its one route, who may use it, and the API behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cfaudit_sandbox.codemode.api import ConnectionLostError
from cfaudit_sandbox.codemode.service import CodeMode, Isolates
from cfaudit_sandbox.oauth.dialect import CODEMODE
from cfaudit_sandbox.oauth.server import OWNER as OAUTH_OWNER
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.server.answers import NO_STORE, json_answer, origin_of
from cfaudit_sandbox.server.app import GRANT_PARTS, challenge
from cfaudit_sandbox.server.edge import Drop
from cfaudit_sandbox.server.identity import NO_TOKEN, UNKNOWN_GRANT, Identities, Refusal, identify
from cfaudit_sandbox.server.modern import VERSION
from cfaudit_sandbox.server.requests import SeenRequest
from cfaudit_sandbox.server.rpc import Form
from cfaudit_sandbox.server.upstream import Caller

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from cfaudit_sandbox.server.app import SandboxApp

CODEMODE_PREFIX = "/codemode"
_MCP = f"{CODEMODE_PREFIX}/mcp"
_METADATA = (
    f"/.well-known/oauth-authorization-server{CODEMODE_PREFIX}",
    f"/.well-known/oauth-protected-resource{_MCP}",
)
_API = f"{CODEMODE_PREFIX}/client/v4/accounts/"
_ACCOUNTS = _API.removesuffix("/")
_LOG = "/logs/audit"


class CodeModeApp:
    """The ASGI application under `/codemode`.

    Attributes:
        isolates: what its calls share, and where they can be made to fail.
        authorization: the OAuth half of a late generation; the first one's is that of the Audit Logs server.
    """

    def __init__(self, app: SandboxApp) -> None:
        self._app = app
        self.isolates = Isolates(app.world, app.upstream)
        self.authorization = OAuth(app.world, dialect=CODEMODE)
        self.identities = Identities(app.upstream)

    def mounts(self) -> dict[str, ASGIApp]:
        """Return what of it stands where: under its own prefix, and the metadata of its OAuth half."""
        late = not self._is_first
        return {CODEMODE_PREFIX: self} | (dict.fromkeys(_METADATA, self._metadata) if late else {})

    @property
    def _is_first(self) -> bool:
        return self._app.world.options.codemode_generation == "G0"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        seen = SeenRequest(self._app.world.clock(), request.method, request.url.path)
        response = await self._answer(request, seen)
        if not isinstance(response, StreamingResponse) and not seen.status:  # a stream notes its own end
            seen.status = 0 if isinstance(response, Drop) else response.status_code
            self._app.requests.note(seen)
        await response(scope, receive, send)

    async def _metadata(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self.authorization.answer(Request(scope, receive)))(scope, receive, send)

    async def _answer(self, request: Request, seen: SeenRequest) -> Response:
        path = request.url.path
        is_api = path == _ACCOUNTS or (path.startswith(_API) and path.endswith(_LOG))
        if not is_api and path != _MCP:
            found = None if self._is_first else await self.authorization.answer(request)
            return found if found is not None and found.status_code != 404 else Response("Not Found", 404)
        early = self._before_auth(request)
        if early is not None:
            return early
        caller = self._authenticated(request)
        seen.cost = caller.cost
        if isinstance(caller, Refusal):
            return self._turn_away(caller, request)
        if is_api:
            return self._api(request, caller, path)
        return await self._speak(request, caller, seen)

    def _before_auth(self, request: Request) -> Response | None:
        if (failed := self._app.edge.fails()) is not None:
            return failed
        if not self._is_first and (refused := self._app.edge.refuses(request)) is not None:
            return refused
        return Response(status_code=204) if request.method == "OPTIONS" else None

    def _authenticated(self, request: Request) -> Caller | Refusal:
        """Recognise who asks."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return NO_TOKEN
        if self._is_first:
            known = len(token.split(":")) == GRANT_PARTS
            return self._app.authorization.caller(token, request) if known else identify(self._app.upstream, token)
        caller = self.authorization.caller(token, request)
        is_ours = len(token.split(":")) == GRANT_PARTS
        return self.identities.caller(token) if caller is UNKNOWN_GRANT and not is_ours else caller

    async def _speak(self, request: Request, caller: Caller, seen: SeenRequest) -> Response:
        headers = request.headers
        accepts = "text/event-stream" in headers.get("accept", "")
        if self._is_first and headers.get("mcp-protocol-version") == VERSION and accepts:
            return _rpc_error(400, f"Bad Request: Unsupported protocol version: {VERSION}")
        if self._is_first and request.method in ("GET", "DELETE"):
            return Response(media_type="text/event-stream" if request.method == "GET" else None)
        service = CodeMode(self.isolates, whole=request.query_params.get("truncateToolResult") == "false")
        # Late ones keep the status of an answer to a sign-in open, because it may have to become a 403.
        form = Form(plain=self._is_first or caller.owner == OAUTH_OWNER, first=self._is_first)
        return await self._app.speak(service, request, caller, seen, form)

    def _turn_away(self, refused: Refusal, request: Request) -> Response:
        if self._is_first:
            if refused not in (NO_TOKEN, UNKNOWN_GRANT):
                return json_answer({"error": "Failed to fetch user or accounts"}, 401)
            body = {"error": refused.error, "error_description": refused.description}
            said = f'Bearer realm="OAuth", error="{refused.error}", error_description="{refused.description}"'
            return json_answer(body, 401, NO_STORE | {"WWW-Authenticate": said})
        silent = refused is NO_TOKEN
        headers = {"Cache-Control": "no-store"}
        if refused.status in (401, 403):
            metadata = f"{origin_of(request)}/.well-known/oauth-protected-resource{_MCP}"
            headers["WWW-Authenticate"] = challenge(refused, metadata, silent=silent)
        if refused.retry_after is not None:
            headers["Retry-After"] = str(refused.retry_after)
        body = {"error": refused.error, "error_description": refused.description}
        return Response(status_code=401, headers=headers) if silent else json_answer(body, refused.status, headers)

    def _api(self, request: Request, caller: Caller, path: str) -> Response:
        """Answer for Cloudflare's API itself, for callers that run the snippet and for others."""
        try:
            parameters = request.query_params.multi_items()
            if path == _ACCOUNTS:
                reply = self.isolates.api.accounts(caller, parameters)
            else:
                account = path.removeprefix(_API).removesuffix(_LOG)
                reply = self.isolates.api.answer(caller, account, parameters)
        except ConnectionLostError:
            return Response(status_code=520)
        return Response(reply.body, reply.status, {"content-type": "application/json", **reply.headers})


def _rpc_error(status: int, message: str) -> Response:
    return json_answer({"jsonrpc": "2.0", "error": {"code": -32000, "message": message}, "id": None}, status)
