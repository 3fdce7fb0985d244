"""HTTP answers of the sandbox, and where it was reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response

from cfaudit_sandbox.world.text import js

if TYPE_CHECKING:
    from starlette.requests import Request

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def json_answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON as a JavaScript server writes it, so with whatever text a client has sent."""
    return Response(js(body).encode(), status, headers, media_type="application/json")


def origin_of(request: Request) -> str:
    """Return the origin that a client used, such as `http://127.0.0.1:8976`."""
    return f"{request.url.scheme}://{request.url.netloc}"


def reflected(request: Request) -> dict[str, str]:
    """Return what the OAuth library adds to every answer for a page of another origin."""
    origin = request.headers.get("origin")
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "*",
        "Access-Control-Allow-Headers": "Authorization, *",
        "Access-Control-Max-Age": "86400",
    }
