"""An authorization server -> the client that we are there: registered by ourselves (RFC 7591), or earlier by a person.

A client id that is an https URL stands for a client id metadata document; it needs no registration and has no secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cfaudit_export.auth.web import object_in, refusal_of, send
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import AccessError, ProtocolError, SettingsError

if TYPE_CHECKING:
    import httpx2

    from cfaudit_export.auth.discovery import AuthorizationServer

CLIENT_NAME = "cfaudit-export"
# Cloudflare forgets a registration after 90 days, and a grant that outlives it cannot be refreshed. A sign-in is good
# for 30 days, so a registration is only used again while that many of its days are certainly left.
REUSE = timedelta(days=60)
_GRANT = timedelta(days=30)
# As seconds a moment beyond the year 5000, so they are milliseconds.
_MILLISECONDS = 1e11
_METHODS = ("none", "client_secret_basic", "client_secret_post")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who we are to an authorization server.

    Attributes:
        id: the client id; a URL where it is a client id metadata document.
        secret: the client secret; None for a public client.
        auth_method: how the token endpoint wants to see it: `none`, `client_secret_basic` or `client_secret_post`.
        redirect_uri: the redirect that was registered; another port of it works too (RFC 8252, 7.3).
        registered_at: when we registered ourselves; None when a person did it for us.
        expires_at: when the secret ends; None for never or unknown.
        refused: the server was heard to say that it does not know this client.
    """

    id: str
    secret: str | None = field(default=None, repr=False)
    auth_method: str = "none"
    redirect_uri: str = ""
    registered_at: datetime | None = None
    expires_at: datetime | None = None
    refused: bool = False

    def is_reusable(self, now: datetime) -> bool:
        """Say whether a sign-in at `now` may use this registration and be refreshed until its end."""
        if self.registered_at is None or self.refused or now - self.registered_at > REUSE:
            return False
        return self.expires_at is None or self.expires_at - now > _GRANT


def register(
    http: httpx2.Client, server: AuthorizationServer, redirect_uri: str, now: datetime, *, names_scope: bool = True
) -> Client:
    """Register this program as a native application, with the scope it will ask for or without.

    Raises:
        SettingsError: the server takes no registrations.
        AccessError, ProtocolError: it refused this one.
        SourceUnavailableError: it cannot answer now.
    """
    if server.registration_endpoint is None:
        raise SettingsError(
            f"'{shown(server.issuer)}' does not register clients itself; register one there and set its client_id"
        )
    request = {
        "client_name": CLIENT_NAME,
        "application_type": "native",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": next((method for method in _METHODS if method in server.auth_methods), "none"),
    }
    if server.scope and names_scope:
        request["scope"] = server.scope
    response = send(http, "POST", server.registration_endpoint, json=request, headers={"Accept": "application/json"})
    answer = object_in(response) or {}
    if not response.is_success:
        error = AccessError if response.status_code in (401, 403) else ProtocolError
        hint = "; if it refuses the scope, set oauth_registration_scope = 'omit'" if "scope" in request else ""
        raise error(f"'{shown(server.issuer)}' refuses to register this program: {refusal_of(response)}{hint}")
    client_id, secret = answer.get("client_id"), answer.get("client_secret")
    method = answer.get("token_endpoint_auth_method", "client_secret_basic" if secret else "none")
    if not isinstance(client_id, str) or not isinstance(secret, str | None) or method not in _METHODS:
        raise ProtocolError(f"'{shown(server.issuer)}' answered the registration without a usable client")
    expires = answer.get("client_secret_expires_at") if secret else None
    return Client(
        id=client_id,
        secret=secret,
        auth_method=method,
        redirect_uri=redirect_uri,
        registered_at=now,
        # RFC 7591, 3.2.1: zero means never.
        expires_at=_moment(expires),
    )


def _moment(seconds: object) -> datetime | None:
    """Return the moment that a server names in seconds since 1970, or in milliseconds; None for zero and nonsense."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1_000 * _MILLISECONDS:
        return None
    return datetime.fromtimestamp(seconds / 1_000 if seconds >= _MILLISECONDS else seconds, UTC)


def known_client(server: AuthorizationServer, client_id: str, secret: str | None) -> Client:
    """Return the client that was registered before, or that a client id metadata document describes.

    Raises:
        SettingsError: the server does not take such a client.
    """
    if client_id.startswith("https://"):
        if secret:
            raise SettingsError(
                f"the client id '{client_id}' is the URL of a metadata document; remove the client secret"
            )
        if not server.client_id_documents:
            raise SettingsError(f"'{shown(server.issuer)}' does not accept the URL of a metadata document as client id")
        return Client(id=client_id)
    wanted = _METHODS[1:] if secret else ("none",)
    method = next((method for method in wanted if method in server.auth_methods), None)
    if method is None:
        need = "client_secret" if not secret else "client without a secret"
        raise SettingsError(
            f"the client '{client_id}' needs a {need}: "
            f"'{shown(server.issuer)}' accepts only {', '.join(map(shown, server.auth_methods))}"
        )
    return Client(id=client_id, secret=secret, auth_method=method)


def read_client_secret(
    *, variable: str | None = None, file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> str | None:
    """Return the client secret that a variable or a file holds, None when neither is named.

    Raises:
        SettingsError: both are named, or the named one holds nothing.
    """
    if variable and file:
        raise SettingsError("the client secret comes from a variable or from a file, not from both")
    if variable:
        if not (secret := environ.get(variable, "").strip()):
            raise SettingsError(f"the variable '{variable}', which holds the client secret, is not set")
        return secret
    if file is None:
        return None
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the client secret cannot be read from '{file}': {type(error).__name__}") from error
    if not secret:
        raise SettingsError(f"the client secret cannot be read from '{file}': it is empty")
    return secret
