"""The query of an authorization request -> what a client wishes for, or the way in which it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from cfaudit_sandbox.oauth.dialect import OAuthGeneration
from cfaudit_sandbox.oauth.registration import OAuthFault, Registration

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

_ONE_RESOURCE = "The resource parameter must name exactly one configured protected resource"


class AuthorizationRequest(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An authorization request as the consent page carries it along."""

    response_type: str
    client_id: str
    redirect_uri: str
    scope: list[str]
    state: str
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    resource: str | list[str]

    def redirect(self, issuer: str | None, **answer: str) -> str:
        """Return the URL that takes an answer to the client."""
        fields = answer | ({"state": self.state} if self.state else {}) | ({"iss": issuer} if issuer else {})
        joint = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{joint}{urlencode(fields)}"


class RefusedByRedirectError(Exception):
    """The client is told by redirect that its request is not accepted."""

    def __init__(self, authorization: AuthorizationRequest, error: str, description: str) -> None:
        super().__init__(description)
        self.authorization = authorization
        self.error = error


def read_authorization(
    query: QueryParams, dialect: OAuthGeneration, resource_url: str, client_of: Callable[[str], Registration | None]
) -> AuthorizationRequest:
    """Read an authorization request.

    Args:
        query: its parameters.
        dialect: how the server speaks.
        resource_url: the one resource, where the dialect has one.
        client_of: looks a client up.

    Raises:
        OAuthFault: it cannot be asked about; the browser stays here.
        RefusedByRedirectError: likewise, and the client is told.
    """
    client = client_of(query.get("client_id", ""))
    redirect_uri = query.get("redirect_uri", "")
    if client is None or not client.allows(redirect_uri):
        raise _stays_here(query, dialect, client)
    resources = query.getlist("resource")
    asked = tuple(query.get("scope", "").split())
    authorization = AuthorizationRequest(
        response_type=query.get("response_type", ""),
        client_id=client.id,
        redirect_uri=redirect_uri,
        scope=list(dialect.granted(asked)),
        state=query.get("state", ""),
        code_challenge=query.get("code_challenge"),
        code_challenge_method=query.get("code_challenge_method", "plain"),
        resource=resources[0] if len(resources) == 1 else resources,
    )
    unknown = [name for name in asked if name not in (*dialect.scopes, *dialect.catalog)]
    if dialect.catalog and unknown:
        raise OAuthFault(400, "invalid_scope", f"Unknown OAuth scope: {unknown[0]}")
    if dialect.strict:
        return _strict(authorization, query, dialect, resource_url, client)
    if authorization.response_type == "token" or not all(map(_is_resource, resources)):
        raise OAuthFault(500, "server_error", "Internal Error")
    return authorization


def _stays_here(query: QueryParams, dialect: OAuthGeneration, client: Registration | None) -> OAuthFault:
    if not dialect.strict:
        return OAuthFault(500, "server_error", "Internal Error")
    if not query.get("client_id"):
        return OAuthFault(400, "invalid_request", "client_id is required")
    return OAuthFault(400, "invalid_request", "Invalid client_id" if client is None else "Invalid redirect URI")


def _strict(
    authorization: AuthorizationRequest,
    query: QueryParams,
    dialect: OAuthGeneration,
    resource_url: str,
    client: Registration,
) -> AuthorizationRequest:
    if authorization.response_type != "code":
        known = f"The authorization server does not support response_type {authorization.response_type}"
        error = "unsupported_response_type" if authorization.response_type else "invalid_request"
        raise RefusedByRedirectError(
            authorization, error, known if authorization.response_type else "response_type is required"
        )
    if (problem := _pkce_problem(authorization, query, client)) is not None:
        raise RefusedByRedirectError(authorization, "invalid_request", problem)
    resources = query.getlist("resource")
    if not dialect.resource:
        if not all(map(_is_resource, resources)):
            raise RefusedByRedirectError(authorization, "invalid_target", _ONE_RESOURCE)
        return authorization
    if resources not in ([], [resource_url]):
        raise RefusedByRedirectError(authorization, "invalid_target", _ONE_RESOURCE)
    return msgspec.structs.replace(authorization, resource=resource_url)


def _pkce_problem(authorization: AuthorizationRequest, query: QueryParams, client: Registration) -> str | None:
    method = query.get("code_challenge_method")
    if not authorization.code_challenge:
        if method:
            return "PKCE code_challenge is required when code_challenge_method is provided."
        is_public = client.auth_method == "none"
        return "Public clients must use PKCE with the authorization code flow." if is_public else None
    if (method or "plain") == "plain":
        return "The plain PKCE method is not allowed. Use S256 instead."
    return None if method == "S256" else f"Unsupported PKCE code_challenge_method: {method}"


def _is_resource(resource: str) -> bool:
    try:
        parts = urlsplit(resource)
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc) and not parts.fragment
