"""What the OAuth server remembers: clients, and grants with their codes and tokens."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cfaudit_export.sandbox.dash import Inner

CLIENT_SECONDS = 90 * 86_400.0
CODE_SECONDS = 600.0
SCOPES = ("user:read", "offline_access", "account:read", "auditlogs:read")
METHODS = ("client_secret_basic", "client_secret_post", "none")
TOKEN_PARTS = 3


class OAuthFault(Exception):  # noqa: N818 - an answer of the protocol, not an error of the program
    """An error answer of the OAuth server: status, OAuth error code, description."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error


@dataclass(frozen=True, slots=True)
class Registration:
    """A client as it registered; `secret` is empty for a public one."""

    id: str
    name: str
    redirect_uris: tuple[str, ...]
    auth_method: str
    secret: str
    issued_at: float

    def allows(self, redirect_uri: str) -> bool:
        """Say whether a redirect is a registered one; for loopback addresses whatever the port (RFC 8252, 7.3)."""
        return any(_same_redirect(known, redirect_uri) for known in self.redirect_uris)


@dataclass(slots=True)
class Access:
    """An access token: when it ends, where it works, and the inner token that calls are made with."""

    expires_at: float
    audience: tuple[str, ...]
    inner: Inner


@dataclass(slots=True)
class GrantRecord:
    """A sign-in, from its code on. `newest` and `previous` are the refresh tokens that may work."""

    user: str
    id: str
    client_id: str
    code: str
    code_until: float
    redirect_uri: str
    challenge: str
    challenge_method: str
    resources: tuple[str, ...]
    inner: Inner
    code_used: bool = False
    expires_at: float = 0.0
    newest: str = ""
    previous: str = ""
    refreshed_at: float = 0.0
    access: dict[str, Access] = field(default_factory=dict)

    def mint(self) -> str:
        """Make a token of this grant."""
        return f"{self.user}:{self.id}:{secrets.token_urlsafe(24)}"


class Memory:
    """Clients and grants. Nothing is ever cleaned up; a sandbox does not live that long.

    Attributes:
        grant_seconds: how long a grant lasts from the exchange of its code.
        documents: whether an https URL is taken for a client id. The document itself is not fetched.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.clients: dict[str, Registration] = {}
        self.grants: dict[str, GrantRecord] = {}
        self.grant_seconds = 0.0
        self.documents = False

    def register(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Register a client (RFC 7591) and return the answer.

        Raises:
            OAuthFault: the metadata is not accepted.
        """
        redirects = body.get("redirect_uris")
        if not isinstance(redirects, list) or not redirects:
            raise OAuthFault(400, "invalid_client_metadata", "At least one redirect URI is required")
        if not all(isinstance(uri, str) and _is_redirect(uri) for uri in redirects):
            raise OAuthFault(400, "invalid_client_metadata", "Invalid redirect URI")
        logo = body.get("logo_uri")
        if logo is not None and urlsplit(str(logo)).scheme not in ("http", "https"):
            problem = "Invalid logo_uri: must be an absolute http: or https: URL"
            raise OAuthFault(400, "invalid_client_metadata", problem)
        method = body.get("token_endpoint_auth_method", METHODS[0])
        now = self.clock()
        secret = "" if method == "none" else secrets.token_urlsafe(24)
        client = Registration(
            secrets.token_urlsafe(12), str(body.get("client_name", "")), tuple(redirects), method, secret, now
        )
        self.clients[client.id] = client
        answer: dict[str, Any] = {"client_id": client.id, "redirect_uris": redirects, "client_name": client.name}
        answer |= {"grant_types": body.get("grant_types", ["authorization_code", "refresh_token"])}
        answer |= {"response_types": body.get("response_types", ["code"]), "token_endpoint_auth_method": method}
        answer |= {"registration_client_uri": f"/register/{client.id}", "client_id_issued_at": int(now)}
        if secret:
            answer |= {"client_secret": secret, "client_secret_expires_at": int(now + CLIENT_SECONDS)}
            answer |= {"client_secret_issued_at": int(now)}
        return answer

    def client(self, client_id: str) -> Registration | None:
        """Look up a client; a registration is forgotten after 90 days."""
        if self.documents and client_id.startswith("https://"):
            return Registration(client_id, client_id, ("http://127.0.0.1/callback",), "none", "", 0.0)
        client = self.clients.get(client_id)
        return client if client is not None and self.clock() < client.issued_at + CLIENT_SECONDS else None

    def grant(self, token: str) -> GrantRecord | None:
        """Look up the grant that a code or token belongs to, by its first two parts."""
        return self.grants.get(token.rpartition(":")[0])

    def authorize(self, user: str, request: Mapping[str, Any], inner: Inner) -> GrantRecord:
        """Begin a grant; the same user's earlier grants to the same client end."""
        client_id = request["clientId"]
        for key, old in list(self.grants.items()):
            if old.user == user and old.client_id == client_id:
                del self.grants[key]
        resources: str | Sequence[str] = request.get("resource") or ()
        grant = GrantRecord(
            user=user,
            id=secrets.token_urlsafe(12),
            client_id=client_id,
            code="",
            code_until=self.clock() + CODE_SECONDS,
            redirect_uri=request["redirectUri"],
            challenge=request.get("codeChallenge") or "",
            challenge_method=request.get("codeChallengeMethod") or "plain",
            resources=(resources,) if isinstance(resources, str) else tuple(resources),
            inner=inner,
        )
        grant.code = grant.mint()
        self.grants[f"{user}:{grant.id}"] = grant
        return grant

    def revoke(self, token: str) -> None:
        """Forget an access token, or by a refresh token its whole grant; anything else is fine (RFC 7009, 2.2)."""
        grant = self.grant(token)
        if grant is None or grant.access.pop(token, None) is not None:
            return
        if token in (grant.newest, grant.previous):
            del self.grants[f"{grant.user}:{grant.id}"]


def _is_redirect(uri: str) -> bool:
    scheme = urlsplit(uri).scheme
    return scheme not in ("", "javascript", "data", "vbscript")


def _same_redirect(known: str, asked: str) -> bool:
    if known == asked:
        return True
    one, other = urlsplit(known), urlsplit(asked)
    host = one.hostname or ""
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    return loopback and (one.scheme, host, one.path, one.query) == (
        other.scheme,
        other.hostname,
        other.path,
        other.query,
    )
