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
from urllib.parse import urlencode

import msgspec
from starlette.responses import RedirectResponse, Response

from cfaudit_sandbox.oauth.authorization import AuthorizationRequest, RefusedByRedirectError, read_authorization
from cfaudit_sandbox.oauth.dash import DASH_PATH, Dash, DashError
from cfaudit_sandbox.oauth.grants import Memory
from cfaudit_sandbox.oauth.registration import OAuthFault
from cfaudit_sandbox.server.answers import json_answer, origin_of

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
        self._dialect = memory.dialect
        self._key = secrets.token_bytes(32)
        self._pending: dict[str, AuthorizationRequest] = {}

    def consent(self, request: Request) -> Response:
        """Show the consent page, or skip it for a client that this browser has approved.

        Raises:
            OAuthFault: the request is not one that can be asked about; the browser stays here.
        """
        try:
            resource = origin_of(request) + self._dialect.resource
            authorization = read_authorization(request.query_params, self._dialect, resource, self._memory.client)
        except RefusedByRedirectError as refused:
            answer = {"error": refused.error, "error_description": str(refused)}
            return RedirectResponse(refused.authorization.redirect(self._issuer(request), **answer), 302)
        if authorization.client_id in self._approved(request) and not self._dialect.asks_always:
            return self._to_dash(request, authorization, {})
        token = str(uuid.uuid4())
        response = Response(self._page(authorization, token), media_type="text/html", headers=_PAGE_HEADERS)
        _set_cookie(response, _CSRF, token, _MINUTES_SECONDS)
        return response

    def _page(self, authorization: AuthorizationRequest, token: str) -> bytes:
        name = html.escape(self._name(authorization.client_id))
        state = _encode({"oauthReqInfo": msgspec.to_builtins(authorization)})
        # Only a generation that tells the client of a refusal has a button for it.
        cancel = 'type="submit" name="cancel" value="1"' if self._dialect.resource else 'type="button"'
        back = "" if self._dialect.resource else ' onclick="history.back()"'
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Authorize</title>'
            f"<h1>{name} wants to read audit logs</h1><p>This is the sandbox of cfaudit-export.</p>"
            f'<form method="post" action="{self._dialect.prefix}{self._dialect.authorize_path}">'
            f'<input type="hidden" name="state" value="{state}">'
            f'<input type="hidden" name="csrf_token" value="{token}">'
            f'<button id="cancel" {cancel}{back}>Cancel</button> '
            f'<button id="approve" type="submit">Approve</button></form>'
        )
        return page.encode("utf-8", "replace")

    def approve(self, request: Request, form: Mapping[str, str]) -> Response:
        """Take the consent and send the browser to the dashboard.

        Raises:
            OAuthFault: the form was not filled in on our page.
        """
        if "csrf_token" not in form:
            raise OAuthFault(400, "invalid_request", "Missing required form token")
        if not _same(request.cookies.get(_CSRF, ""), form["csrf_token"]):
            raise OAuthFault(403, "access_denied", "Request validation failed")
        if not form.get("state"):
            raise OAuthFault(400, "invalid_request", "Missing state in form data")
        authorization = _carried(form["state"])
        if form.get("cancel") and self._dialect.resource:
            return self._denied(request, authorization)
        approved = _encode([*self._approved(request), authorization.client_id])
        cookies = {_APPROVED: (f"{self._sign(approved)}.{approved}", _YEAR_SECONDS)}
        return self._to_dash(request, authorization, cookies)

    def _denied(self, request: Request, authorization: AuthorizationRequest) -> Response:
        answer = {"error": "access_denied", "error_description": "The resource owner denied the request"}
        return RedirectResponse(authorization.redirect(self._issuer(request), **answer), 302)

    def _issuer(self, request: Request) -> str | None:
        """Return the issuer where the redirect names it (RFC 9207)."""
        named = self._dialect.strict or self._dash.knobs.names_itself
        return f"{origin_of(request)}{self._dialect.prefix}" if named else None

    async def callback(self, request: Request) -> Response:
        """Take the dashboard's answer and send the browser to the client with a code.

        Raises:
            OAuthFault: no code; the browser stays here.
        """
        query = request.query_params
        told = query.get("error") == "access_denied" and bool(self._dialect.resource)
        wanted = ("state",) if told else ("code", "state", "scope")
        if missing := [name for name in wanted if name not in query]:
            return _zod_error(missing)
        found = _decode(query["state"])
        state = str(found.get("state", "")) if isinstance(found, dict) else ""
        cookie = request.cookies.get(_CONSENTED)
        if not cookie:
            raise OAuthFault(400, "invalid_request", "Authorization session expired, please restart the flow")
        authorization = self._pending.pop(state, None)
        if authorization is None or not _same(cookie, hashlib.sha256(state.encode()).hexdigest()):
            raise OAuthFault(403, "access_denied", "Session validation failed")
        if told:
            return self._denied(request, authorization)
        try:
            inner = await self._dash.exchange()
        except DashError as error:
            raise _sign_in_fault(error.status) from error
        if self._dash.knobs.probe_status == 403:
            raise OAuthFault(403, "access_denied", "Token lacks required user:read or account:read scope")
        grant = self._memory.authorize(self._user, authorization, inner)
        response = RedirectResponse(authorization.redirect(self._issuer(request), code=grant.code), 302)
        _set_cookie(response, _CONSENTED, "", 0)
        return response

    def _name(self, client_id: str) -> str:
        client = self._memory.client(client_id)
        return (client.name if client else "") or client_id

    def _to_dash(
        self, request: Request, authorization: AuthorizationRequest, cookies: dict[str, tuple[str, int]]
    ) -> Response:
        state = str(uuid.uuid4())
        self._pending[state] = authorization
        origin = origin_of(request)
        query = {
            "response_type": "code",
            "client_id": _DASH_CLIENT,
            "redirect_uri": f"{origin}{self._dialect.prefix}/oauth/callback",
            "state": _encode({"state": state}),
            "code_challenge": secrets.token_urlsafe(32),
            "code_challenge_method": "S256",
            "scope": " ".join(authorization.scope),
        }
        response = RedirectResponse(f"{origin}{self._dialect.prefix}{DASH_PATH}?{urlencode(query)}", 302)
        cookies |= {_CONSENTED: (hashlib.sha256(state.encode()).hexdigest(), _MINUTES_SECONDS)}
        for name, (value, age) in cookies.items():
            _set_cookie(response, name, value, age)
        return response

    def _approved(self, request: Request) -> list[str]:
        signature, _, approved = request.cookies.get(_APPROVED, "").partition(".")
        if not approved or not _same(signature, self._sign(approved)):
            return []
        return list(_decode(approved))

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _set_cookie(response: Response, name: str, value: str, age: int) -> None:
    response.headers.append("Set-Cookie", f"{name}={value}; {_COOKIE}{age}")


def _encode(document: Any) -> str:
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


def _decode(text: str) -> Any:
    try:
        return json.loads(base64.b64decode(text))
    except (ValueError, RecursionError) as error:
        raise OAuthFault(400, "invalid_request", "Invalid state") from error


def _carried(state: str) -> AuthorizationRequest:
    found = _decode(state)
    try:
        return msgspec.convert(found["oauthReqInfo"], AuthorizationRequest)
    except (TypeError, KeyError, msgspec.ValidationError) as error:
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
    return json_answer(body, 400)
