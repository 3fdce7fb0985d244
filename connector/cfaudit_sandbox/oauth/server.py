"""The OAuth half of the emulated Audit Logs server: discovery, registration, sign-in, tokens.

    with Sandbox(world) as sandbox:
        oauth = sandbox.app.authorization = OAuth(world)

It behaves as the real one was observed to, also where that is odd: today's never tells the client of an error by
redirect, a refresh token's predecessor works until the token is used, access tokens outlive what they stand for
upstream. Later generations, and the code-mode server, speak another `OAuthGeneration`.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import PlainTextResponse, Response

from cfaudit_sandbox.oauth.dash import DASH_PATH, Dash, OAuthKnobs, TokenMishap, ask_person, heed_person
from cfaudit_sandbox.oauth.dialect import AUDITLOGS, READS_LOGS, OAuthGeneration
from cfaudit_sandbox.oauth.grants import Memory
from cfaudit_sandbox.oauth.pages import Pages
from cfaudit_sandbox.oauth.registration import METHODS, OAuthFault
from cfaudit_sandbox.oauth.token import token_answer
from cfaudit_sandbox.server.answers import NO_STORE, json_answer, origin_of, reflected
from cfaudit_sandbox.server.identity import UNKNOWN_GRANT, Refusal
from cfaudit_sandbox.server.upstream import Caller

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from cfaudit_sandbox.world.world import World

_SERVER_METADATA = "/.well-known/oauth-authorization-server"
_OPENID_METADATA = "/.well-known/openid-configuration"
_RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
_REGISTRATION_BYTES = 1024 * 1024
OWNER = "oauth"
"""Whose budget the calls of a sign-in are charged to."""


class OAuth:
    """An OAuth server for one user, who sees all accounts of the world. Runs in the sandbox's thread."""

    def __init__(self, world: World, knobs: OAuthKnobs | None = None, dialect: OAuthGeneration | None = None) -> None:
        self._world = world
        self.dialect = dialect or AUDITLOGS[world.options.auditlogs_generation]
        self.dash = Dash(world.clock)
        self.memory = Memory(world.clock, self.dialect)
        self._pages = Pages(self.memory, self.dash, "f0" * 16)
        self._mishaps: deque[TokenMishap] = deque()
        self.refreshes = 0
        self.turn(knobs or OAuthKnobs())

    def turn(self, knobs: OAuthKnobs) -> None:
        """Change the server's behaviour."""
        self.dash.knobs = knobs
        self.memory.documents = knobs.client_id_documents
        self.memory.grant_seconds = knobs.grant_seconds

    def fail_next(self, mishap: TokenMishap, times: int = 1) -> None:
        """Let the next token requests fail."""
        self._mishaps.extend([mishap] * times)

    def forget_clients(self) -> None:
        """Lose all registrations."""
        self.memory.clients.clear()

    def caller(self, token: str, request: Request) -> Caller | Refusal:
        """Recognise an access token used at this URL."""
        grant = self.memory.grant(token)
        access = grant.access.get(token) if grant else None
        if access is None:
            return UNKNOWN_GRANT
        if self._world.clock() >= access.expires_at:
            return Refusal(401, "invalid_token", "Access token expired")
        url = f"{origin_of(request)}{request.url.path}"
        if access.audience and not any(_covers(resource, url) for resource in access.audience):
            return Refusal(401, "invalid_token", "Token audience does not match resource server", in_header=True)
        accounts = tuple(self._world.accounts)
        pinned = accounts[0] if len(accounts) == 1 else None
        may_audit = not READS_LOGS.isdisjoint(grant.scopes) if grant else False
        return Caller(OWNER, accounts, pinned, may_audit=may_audit, expired=not self.dash.is_alive(access.inner))

    async def answer(self, request: Request) -> Response:
        """Answer a request for discovery, registration, tokens, or anything else."""
        try:
            response = await self._routed(request)
        except OAuthFault as fault:
            waits = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            body = {"error": fault.error, "error_description": str(fault)}
            response = json_answer(body, fault.status, NO_STORE | waits)
        if response.status_code != 404:
            response.headers.update(reflected(request))
        return response

    async def _routed(self, request: Request) -> Response:
        path, prefix = request.url.path, self.dialect.prefix
        of_library = {f"{prefix}/register": self._register, f"{prefix}/token": self._token}
        is_metadata = path.startswith((_SERVER_METADATA, _RESOURCE_METADATA))
        if request.method == "OPTIONS" and (path in of_library or is_metadata):
            return Response(status_code=204, headers={"Content-Length": "0"})
        if path == _RESOURCE_METADATA or path.startswith(_RESOURCE_METADATA + "/"):
            return self._describe_resource(request)
        if path == (_OPENID_METADATA if self.dash.knobs.openid_only else _SERVER_METADATA) + prefix:
            return self._describe_server(request)
        endpoints = of_library | {
            f"{prefix}{self.dialect.authorize_path}": self._authorize,
            f"{prefix}/oauth/callback": self._pages.callback,
            f"{prefix}{DASH_PATH}": self._dash_page,
        }
        if path in endpoints:
            return await endpoints[path](request)
        return PlainTextResponse("404 Not Found", 404)

    def _describe_resource(self, request: Request) -> Response:
        """Describe the resource of any path, or the one there is."""
        origin, path = origin_of(request), request.url.path.removeprefix(_RESOURCE_METADATA)
        if self.dialect.resource and path != self.dialect.resource:
            return Response(status_code=404)
        metadata = {"resource": origin + path, "authorization_servers": [origin + self.dialect.prefix]}
        return json_answer(metadata | {"bearer_methods_supported": ["header"]})

    def _describe_server(self, request: Request) -> Response:
        dialect = self.dialect
        issuer = origin_of(request) + dialect.prefix
        metadata: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}{dialect.authorize_path}",
            "token_endpoint": f"{issuer}/token",
            "registration_endpoint": f"{issuer}/register",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": list(METHODS),
            "revocation_endpoint": f"{issuer}/token",
            "code_challenge_methods_supported": ["S256"] if dialect.strict else ["plain", "S256"],
            "client_id_metadata_document_supported": self.memory.documents,
        }
        if dialect.catalog:
            metadata["scopes_supported"] = [*dialect.scopes, *dialect.catalog]
        if dialect.resource:
            metadata["protected_resources"] = [origin_of(request) + dialect.resource]
        if dialect.strict or self.dash.knobs.names_itself:
            metadata["authorization_response_iss_parameter_supported"] = True
        return json_answer(metadata)

    async def _authorize(self, request: Request) -> Response:
        if request.method == "POST":
            return self._pages.approve(request, await _form(request))
        return self._pages.consent(request)

    async def _dash_page(self, request: Request) -> Response:
        if request.method == "POST":
            callback = f"{origin_of(request)}{self.dialect.prefix}/oauth/callback"
            return heed_person(await _form(request), callback)
        return ask_person(request.query_params, request.url.path)

    async def _register(self, request: Request) -> Response:
        if request.method != "POST":
            raise OAuthFault(405, "invalid_request", "Method not allowed")
        content = await request.body()
        if len(content) > _REGISTRATION_BYTES:
            raise OAuthFault(413, "invalid_request", "Request payload too large, must be under 1 MiB")
        try:
            body = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise OAuthFault(400, "invalid_request", "Invalid JSON payload") from error
        return json_answer(self.memory.register(body), 201, NO_STORE)

    async def _token(self, request: Request) -> Response:
        if request.method != "POST":
            raise OAuthFault(405, "invalid_request", "Method not allowed")
        body = await request.body()
        self.refreshes += b"grant_type=refresh_token" in body
        mishap = self._mishaps.popleft() if self._mishaps else None
        if mishap == "drop":
            return _Broken()
        if mishap == "html":
            return Response("<html><body>error code: 1101</body></html>", 500, media_type="text/html")
        if isinstance(mishap, int):
            self.dash.fail_next(mishap)
        headers = request.headers
        answer = await token_answer(
            self.memory, self.dash, headers.get("content-type", ""), headers.get("authorization", ""), body
        )
        if mishap == "lost":
            return _Broken()
        if mishap == "garbled":
            return Response(json.dumps(answer)[:60], media_type="application/json")
        # The answer to a revocation is the library's only one that may be stored.
        return json_answer(answer, headers=NO_STORE) if answer else PlainTextResponse("")


class _Broken(Response):
    """An answer whose connection breaks before it is complete."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Promise a body, and leave."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"512")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def _covers(resource: str, url: str) -> bool:
    """Say whether a token for `resource` works at `url`: there, or below it."""
    return url == resource or url.startswith(resource if resource.endswith("/") else resource + "/")


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
