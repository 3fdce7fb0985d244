"""The token endpoint of the OAuth server: form -> tokens, or the error the server words so."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from cfaudit_sandbox.oauth.dash import Dash, DashError, Inner
from cfaudit_sandbox.oauth.grants import TOKEN_PARTS, AccessToken, GrantRecord, Memory
from cfaudit_sandbox.oauth.registration import OAuthFault, Registration

_FIRST_LIFE_SECONDS = 3600
_SHORTEST_SECONDS = 60
_BUSY_SECONDS = 1
_NOT_INCLUDED = "Requested resource was not included in the authorization request"
_ONE_RESOURCE = "The resource parameter must name exactly one configured protected resource"


async def token_answer(
    memory: Memory, dash: Dash, content_type: str, authorization: str, body: bytes
) -> dict[str, Any]:
    """Answer a token or revocation request; an empty answer is a revocation's.

    Raises:
        OAuthFault: the error to answer with.
    """
    form = _form(content_type, body)
    client = _client(memory, authorization, form)
    grant_type = form.get("grant_type")
    if grant_type == "authorization_code":
        return _exchange(memory, client, form)
    if grant_type == "refresh_token":
        return await _refresh(memory, dash, client, form)
    if grant_type is None and form.get("token"):
        memory.revoke(form["token"])
        return {}
    raise OAuthFault(400, "unsupported_grant_type", "Grant type not supported")


def _form(content_type: str, body: bytes) -> dict[str, str]:
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise OAuthFault(400, "invalid_request", "Content-Type must be application/x-www-form-urlencoded")
    pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    times = Counter(name for name, _ in pairs)
    # A resource may be repeated (RFC 8707, 2); more than one is never authorized here, so the last one counts.
    if repeated := [name for name, count in times.items() if count > 1 and name != "resource"]:
        raise OAuthFault(400, "invalid_request", f'Request parameter "{repeated[0]}" must not be repeated')
    return dict(pairs)


def _client(memory: Memory, authorization: str, form: Mapping[str, str]) -> Registration:
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "basic":
        if client_id:
            raise OAuthFault(400, "invalid_request", "Client must not use multiple authentication methods")
        client_id, secret = _basic(encoded)
    if not client_id:
        raise OAuthFault(401, "invalid_client", "Client ID is required")
    client = memory.client(client_id)
    if client is None:
        raise OAuthFault(401, "invalid_client", "Client not found")
    if client.secret and not secret:
        raise OAuthFault(401, "invalid_client", "Client authentication failed: missing client_secret")
    if client.secret and secret != client.secret:
        raise OAuthFault(401, "invalid_client", "Client authentication failed: invalid client_secret")
    return client


def _basic(encoded: str) -> tuple[str, str]:
    try:
        client_id, colon, secret = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        client_id, colon, secret = "", "", ""
    if not colon:
        raise OAuthFault(401, "invalid_client", "Client authentication failed: invalid Basic credentials")
    return client_id, secret


def _exchange(memory: Memory, client: Registration, form: Mapping[str, str]) -> dict[str, Any]:
    grant = _grant_of_code(memory, client, form)
    resource = form.get("resource")
    if resource and grant.resources and resource not in grant.resources:
        grant.code_used = True
        raise _invalid_target(memory)
    now = memory.clock()
    grant.code_used = True
    grant.expires_at = now + memory.grant_seconds
    grant.newest = grant.mint()
    return _issue(grant, _FIRST_LIFE_SECONDS, _audience(grant, resource), form, now)


def _grant_of_code(memory: Memory, client: Registration, form: Mapping[str, str]) -> GrantRecord:
    code = form.get("code", "")
    if not code:
        raise OAuthFault(400, "invalid_request", "Authorization code is required")
    if len(code.split(":")) != TOKEN_PARTS:
        raise OAuthFault(400, "invalid_grant", "Invalid authorization code format")
    grant = memory.grant(code)
    if grant is None or (not grant.code_used and memory.clock() >= grant.code_until):
        raise OAuthFault(400, "invalid_grant", "Grant not found or authorization code expired")
    if code != grant.code:
        raise OAuthFault(400, "invalid_grant", "Invalid authorization code")
    if grant.code_used:
        memory.end(grant)
        raise OAuthFault(400, "invalid_grant", "Authorization code already used")
    if grant.client_id != client.id:
        raise OAuthFault(400, "invalid_grant", "Client ID mismatch")
    if form.get("redirect_uri", grant.redirect_uri) != grant.redirect_uri:
        raise OAuthFault(400, "invalid_grant", "Invalid redirect URI")
    _check_pkce(grant, form.get("code_verifier", ""))
    return grant


def _check_pkce(grant: GrantRecord, verifier: str) -> None:
    if not grant.challenge:
        return
    if not verifier:
        raise OAuthFault(400, "invalid_request", "code_verifier is required for PKCE")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if grant.challenge != (digest if grant.challenge_method == "S256" else verifier):
        raise OAuthFault(400, "invalid_grant", "Invalid PKCE code_verifier")


async def _refresh(memory: Memory, dash: Dash, client: Registration, form: Mapping[str, str]) -> dict[str, Any]:
    presented = form.get("refresh_token", "")
    grant = _grant_of_refresh(memory, dash, client, presented)
    inner = await _inner(memory, dash, grant)
    if inner.expires_at - memory.clock() < _SHORTEST_SECONDS:
        raise OAuthFault(400, "invalid_request", "Requested token lifetime must be at least 60 seconds")
    now = memory.clock()
    grant.inner, grant.refreshed_at = inner, now
    # The predecessor goes on working until the newest is used; each time it is, the newest is another one.
    grant.previous, grant.newest = presented, grant.mint()
    resource = form.get("resource")
    if resource and grant.resources and resource not in grant.resources:
        raise _invalid_target(memory)
    # The catalog of scopes came with tokens of one life, whatever the inner one's is.
    life = min(now + _FIRST_LIFE_SECONDS if memory.dialect.catalog else inner.expires_at, grant.expires_at) - now
    return _issue(grant, int(life), _audience(grant, resource), form, now)


def _grant_of_refresh(memory: Memory, dash: Dash, client: Registration, presented: str) -> GrantRecord:
    if not presented:
        raise OAuthFault(400, "invalid_request", "Refresh token is required")
    if len(presented.split(":")) != TOKEN_PARTS:
        raise OAuthFault(400, "invalid_grant", "Invalid token format")
    grant = memory.grant(presented)
    if grant is None:
        raise OAuthFault(400, "invalid_grant", "Grant not found")
    lagging = grant.previous and memory.clock() < grant.refreshed_at + dash.knobs.lag_seconds
    if presented not in ({grant.previous} if lagging else {grant.newest, grant.previous}):
        raise OAuthFault(400, "invalid_grant", "Invalid refresh token")
    if grant.client_id != client.id:
        raise OAuthFault(400, "invalid_grant", "Client ID mismatch")
    if grant.expires_at - memory.clock() < _SHORTEST_SECONDS:
        raise OAuthFault(400, "invalid_grant", "Refresh token has expired")
    return grant


async def _inner(memory: Memory, dash: Dash, grant: GrantRecord) -> Inner:
    if memory.dialect.refreshes_alone and grant.is_refreshing:
        problem = "Token refresh is already in progress; retry shortly"
        raise OAuthFault(429, "temporarily_unavailable", problem, retry_after=_BUSY_SECONDS)
    grant.is_refreshing = True
    try:
        return await dash.refresh(grant.inner.refresh)
    except DashError as error:
        fault = dash_fault(error.status)
        if memory.dialect.resource and fault.error == "invalid_grant":
            memory.end(grant)
        raise fault from error
    finally:
        grant.is_refreshing = False


def _invalid_target(memory: Memory) -> OAuthFault:
    return OAuthFault(400, "invalid_target", _ONE_RESOURCE if memory.dialect.resource else _NOT_INCLUDED)


def dash_fault(status: int) -> OAuthFault:
    """Say how the server words a refresh that dash refused with a status."""
    if status == 401:
        return OAuthFault(401, "invalid_client", "Client authentication failed")
    if status == 403:
        return OAuthFault(400, "invalid_grant", "Access denied")
    if status == 429:
        return OAuthFault(503, "temporarily_unavailable", "Token refresh failed")
    if status >= 500:
        return OAuthFault(500, "server_error", "Upstream token service unavailable")
    return OAuthFault(400, "invalid_grant", "Authorization grant is invalid, expired, or revoked")


def _audience(grant: GrantRecord, resource: str | None) -> tuple[str, ...]:
    return (resource,) if resource else grant.resources


def _issue(
    grant: GrantRecord, life: int, audience: tuple[str, ...], form: Mapping[str, str], now: float
) -> dict[str, Any]:
    token = grant.mint()
    grant.access[token] = AccessToken(now + life, audience, grant.inner)
    wanted = form.get("scope", "").split()
    scope = [name for name in grant.scopes if not wanted or name in wanted]
    answer = {"access_token": token, "token_type": "bearer", "expires_in": life}
    answer |= {"scope": " ".join(scope), "refresh_token": grant.newest}
    if audience:
        answer["resource"] = audience[0] if len(audience) == 1 else list(audience)
    return answer
