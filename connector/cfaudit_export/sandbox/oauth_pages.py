"""The pages of the OAuth server that a browser sees: consent, and the way to the dashboard and back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from cfaudit_export.sandbox.dash import DASH_PATH, Dash, DashError
from cfaudit_export.sandbox.oauth_grants import SCOPES, Memory, OAuthFault

if TYPE_CHECKING:
    from starlette.requests import Request

_CSRF, _APPROVED, _CONSENTED = "__Host-CSRF_TOKEN", "__Host-MCP_APPROVED_CLIENTS", "__Host-CONSENTED_STATE"
_COOKIE = "HttpOnly; Secure; Path=/; SameSite=Lax; Max-Age="
_MINUTES_SECONDS, _YEAR_SECONDS = 600, 31_536_000
_PAGE_HEADERS = {"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY"}
_DASH_CLIENT = "emulated-mcp-server"


class Pages:
    """Consent and callback. What is between the two is remembered under a uuid, for one use."""

    def __init__(self, memory: Memory, dash: Dash, user: str) -> None:
        self._memory = memory
        self._dash = dash
        self._user = user
        self._key = secrets.token_bytes(32)
        self._pending: dict[str, dict[str, Any]] = {}

    def consent(self, request: Request) -> Response:
        """Show the consent page, or skip it for a client that this browser has approved.

        Raises:
            OAuthFault: the request is not one that can be asked about; the browser stays here.
        """
        wish = self._wish(request)
        if wish["clientId"] in self._approved(request):
            return self._to_dash(request, wish, {})
        token = str(uuid.uuid4())
        name = html.escape(self._name(wish["clientId"]))
        state = _encode({"oauthReqInfo": wish})
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Authorize</title>'
            f"<h1>{name} wants to read audit logs</h1><p>This is the sandbox of cfaudit-export.</p>"
            f'<form method="post" action="/oauth/authorize">'
            f'<input type="hidden" name="state" value="{state}">'
            f'<input type="hidden" name="csrf_token" value="{token}">'
            f'<button type="button" onclick="history.back()">Cancel</button> '
            f'<button id="approve" type="submit">Approve</button></form>'
        )
        response = HTMLResponse(page, headers=_PAGE_HEADERS)
        _set_cookie(response, _CSRF, token, _MINUTES_SECONDS)
        return response

    def approve(self, request: Request, form: Mapping[str, str]) -> Response:
        """Take the consent and send the browser to the dashboard.

        Raises:
            OAuthFault: the form was not filled in on our page.
        """
        if "csrf_token" not in form:
            raise OAuthFault(400, "invalid_request", "Missing required form token")
        if not hmac.compare_digest(request.cookies.get(_CSRF, ""), form["csrf_token"]):
            raise OAuthFault(403, "access_denied", "Request validation failed")
        if not form.get("state"):
            raise OAuthFault(400, "invalid_request", "Missing state in form data")
        wish = _decode(form["state"])["oauthReqInfo"]
        approved = _encode([*self._approved(request), wish["clientId"]])
        cookies = {_APPROVED: (f"{self._sign(approved)}.{approved}", _YEAR_SECONDS)}
        return self._to_dash(request, wish, cookies)

    async def callback(self, request: Request) -> Response:
        """Take the dashboard's answer and send the browser to the client with a code.

        Raises:
            OAuthFault: no code; the browser stays here.
        """
        query = request.query_params
        if missing := [name for name in ("code", "state", "scope") if name not in query]:
            return _zod_error(missing)
        state = str(_decode(query["state"]).get("state", ""))
        cookie = request.cookies.get(_CONSENTED)
        if not cookie:
            raise OAuthFault(400, "invalid_request", "Authorization session expired, please restart the flow")
        wish = self._pending.pop(state, None)
        if wish is None or not hmac.compare_digest(cookie, hashlib.sha256(state.encode()).hexdigest()):
            raise OAuthFault(403, "access_denied", "Session validation failed")
        try:
            inner = await self._dash.exchange()
        except DashError as error:
            raise _sign_in_fault(error.status) from error
        if self._dash.knobs.probe_status == 403:
            raise OAuthFault(403, "access_denied", "Token lacks required user:read or account:read scope")
        grant = self._memory.authorize(self._user, wish, inner)
        answer = {"code": grant.code} | ({"state": wish["state"]} if wish["state"] else {})
        if self._dash.knobs.names_itself:
            answer["iss"] = f"{request.url.scheme}://{request.url.netloc}"
        joint = "&" if urlsplit(grant.redirect_uri).query else "?"
        response = RedirectResponse(f"{grant.redirect_uri}{joint}{urlencode(answer)}", 302)
        _set_cookie(response, _CONSENTED, "", 0)
        return response

    def _wish(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        if not query.get("client_id"):
            raise OAuthFault(400, "invalid_request", "Missing client_id parameter")
        client = self._memory.client(query["client_id"])
        resources = query.getlist("resource")
        if (
            client is None
            or not client.allows(query.get("redirect_uri", ""))
            or query.get("response_type") != "code"
            or not all(_is_resource(resource) for resource in resources)
        ):
            raise OAuthFault(500, "server_error", "Internal Error")
        return {
            "responseType": "code",
            "clientId": client.id,
            "redirectUri": query["redirect_uri"],
            "scope": list(SCOPES),
            "state": query.get("state", ""),
            "codeChallenge": query.get("code_challenge"),
            "codeChallengeMethod": query.get("code_challenge_method", "plain"),
            "resource": resources[0] if len(resources) == 1 else resources,
        }

    def _name(self, client_id: str) -> str:
        client = self._memory.client(client_id)
        return (client.name if client else "") or client_id

    def _to_dash(self, request: Request, wish: dict[str, Any], cookies: dict[str, tuple[str, int]]) -> Response:
        state = str(uuid.uuid4())
        self._pending[state] = wish
        origin = f"{request.url.scheme}://{request.url.netloc}"
        query = {
            "response_type": "code",
            "client_id": _DASH_CLIENT,
            "redirect_uri": f"{origin}/oauth/callback",
            "state": _encode({"state": state}),
            "code_challenge": secrets.token_urlsafe(32),
            "code_challenge_method": "S256",
            "scope": " ".join(SCOPES),
        }
        response = RedirectResponse(f"{origin}{DASH_PATH}?{urlencode(query)}", 302)
        cookies |= {_CONSENTED: (hashlib.sha256(state.encode()).hexdigest(), _MINUTES_SECONDS)}
        for name, (value, age) in cookies.items():
            _set_cookie(response, name, value, age)
        return response

    def _approved(self, request: Request) -> list[str]:
        signature, _, approved = request.cookies.get(_APPROVED, "").partition(".")
        if not approved or not hmac.compare_digest(signature, self._sign(approved)):
            return []
        return list(_decode(approved))

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()


def _is_resource(resource: str) -> bool:
    parts = urlsplit(resource)
    return bool(parts.scheme and parts.netloc) and not parts.fragment


def _set_cookie(response: Response, name: str, value: str, age: int) -> None:
    response.headers.append("Set-Cookie", f"{name}={value}; {_COOKIE}{age}")


def _encode(document: Any) -> str:
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


def _decode(text: str) -> Any:
    try:
        return json.loads(base64.b64decode(text))
    except ValueError as error:
        raise OAuthFault(400, "invalid_request", "Invalid state") from error


def _sign_in_fault(status: int) -> OAuthFault:
    if status == 429:
        return OAuthFault(429, "temporarily_unavailable", "Rate limited, try again later")
    if status >= 500:
        return OAuthFault(500, "server_error", "Internal Error")
    return OAuthFault(400, "invalid_request", "The authorization code was not accepted")


def _zod_error(missing: list[str]) -> Response:
    words = "Invalid input: expected string, received undefined"
    issues = [{"expected": "string", "code": "invalid_type", "path": [name], "message": words} for name in missing]
    body = {"success": False, "error": {"name": "ZodError", "message": json.dumps(issues, indent=2)}}
    return JSONResponse(body, 400)
