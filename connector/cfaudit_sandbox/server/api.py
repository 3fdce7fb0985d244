"""Cloudflare's API as far as a client asks it directly: the accounts of an API token, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from cfaudit_sandbox.server.upstream import Upstream
    from cfaudit_sandbox.world.composer import SandboxAccount

API_PREFIX = "/client/v4"
_PAGE = 20
_LONGEST_PAGE = 50


class Api:
    """The ASGI application under `/client/v4`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._answer(Request(scope, receive))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if (request.method, request.url.path) != ("GET", f"{API_PREFIX}/accounts"):
            return _refused(404, 7003, "Could not route to this path")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        probe = self._upstream.probe(token)
        if scheme != "Bearer" or probe.status != 200:
            headers = {} if probe.retry_after is None else {"Retry-After": str(probe.retry_after)}
            return _refused(probe.status if scheme == "Bearer" else 401, 10000, "Authentication error", headers)
        credential = self._upstream.credential(token)
        accounts = credential.accounts if credential else ()
        body = listed(accounts, request.query_params)
        return _refused(400, 1001, "Invalid page") if body is None else JSONResponse(body)


def listed(accounts: Sequence[SandboxAccount], query: Mapping[str, str]) -> dict[str, Any] | None:
    """Return one page of accounts as the API writes it; None where there is no such page."""
    try:
        page, size = (int(query.get(name, usual)) for name, usual in (("page", 1), ("per_page", _PAGE)))
    except ValueError:
        return None
    if not (page >= 1 and 5 <= size <= _LONGEST_PAGE):
        return None
    shown = accounts[(page - 1) * size : page * size]
    info = {"page": page, "per_page": size, "count": len(shown), "total_count": len(accounts)}
    result = [{"id": account.id, "name": account.name, "type": "standard"} for account in shown]
    return {"success": True, "errors": [], "messages": [], "result": result, "result_info": info}


def _refused(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}
    return JSONResponse(body, status, headers)
