"""The sandbox's own endpoints under `/sandbox`: look at it, and make it misbehave, from another process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from cfaudit_sandbox.server.upstream import EDGE_DROPS
from cfaudit_sandbox.world.options import RUNTIME_KNOBS

if TYPE_CHECKING:
    from starlette.requests import Request

    from cfaudit_sandbox.server.app import SandboxApp

_WHERE = ("probe", "audit", "edge")
_NAMED = ("drop", "html", "empty")
_MOST_TIMES = 100_000


async def control(app: SandboxApp, request: Request) -> Response:
    """Answer one of the endpoints; what cannot be understood is answered 400 with the reason."""
    route = (request.method, request.url.path.removeprefix("/sandbox"))
    try:
        if route == ("GET", "/stats"):
            return JSONResponse(stats(app))
        if route == ("GET", "/world"):
            return JSONResponse(_world(app))
        if route == ("POST", "/reset"):
            reset(app)
        elif route == ("POST", "/knobs"):
            app.world.turn(**await _body(request))
        elif route == ("POST", "/fail-next"):
            _fail_next(app, await _body(request))
        else:
            return JSONResponse({"error": f"nothing at {request.method} {request.url.path}"}, 404)
    except (ValueError, TypeError, RecursionError) as error:
        return JSONResponse({"error": str(error)}, 400)
    return JSONResponse({"ok": True})


def stats(app: SandboxApp) -> dict[str, Any]:
    """Count what was asked: requests, tool calls, upstream calls by sort, 429 given upstream, the page cache."""
    cache = app.service.cache
    upstream = {"probes": 0, "audit_calls": 0, "upstream_calls": 0, "throttled": 0} | dict(app.upstream.counts)
    return (
        {"requests": 0, "tool_calls": 0}
        | app.requests.counts()
        | upstream
        | {
            "cache_hits": cache.hits,
            "cache_misses": cache.misses,
        }
    )


def _world(app: SandboxApp) -> dict[str, Any]:
    world = app.world
    return {
        "accounts": [{"id": account.id, "name": account.name} for account in world.accounts],
        "tokens": world.tokens,
        "since": world.since,
        "before": world.before,
    }


def reset(app: SandboxApp) -> None:
    """Bring knobs, counts, budgets, planned failures and the page cache back to the start; the data stays."""
    app.world.turn(**{name: getattr(app.first_options, name) for name in RUNTIME_KNOBS})
    app.requests.reset()
    app.upstream.reset()
    app.service.cache.reset()
    app.identities.reset()
    app.edge.reset()


async def _body(request: Request) -> dict[str, Any]:
    body = json.loads(await request.body() or b"{}")
    if not isinstance(body, dict):
        raise TypeError("the body must be a JSON object")
    return body


def _fail_next(app: SandboxApp, body: dict[str, Any]) -> None:
    unknown = set(body) - {"status", "times", "where", "retry_after"}
    status, times, where = body.get("status", 500), body.get("times", 1), body.get("where", "audit")
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}; choose from: status, times, where, retry_after")
    if where not in _WHERE:
        raise ValueError(f"where is {where!r}; choose from: {', '.join(_WHERE)}")
    for name, value in (("times", times), ("retry_after", body.get("retry_after", 0))):
        if not _is_whole(value) or not 0 <= value <= _MOST_TIMES:
            raise TypeError(f"{name} must be a whole number from 0 to {_MOST_TIMES}, not {value!r}")
    if not (_is_whole(status) and 400 <= status <= 599) and status not in (EDGE_DROPS if where == "edge" else _NAMED):
        named = EDGE_DROPS if where == "edge" else _NAMED
        raise ValueError(f"status is {status!r}; at {where} choose 400 to 599 or: {', '.join(named)}")
    app.upstream.fail_next(status, times=times, where=where, retry_after=body.get("retry_after"))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
