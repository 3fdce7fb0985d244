"""What the OAuth server remembers: clients, and grants with their codes and tokens."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cfaudit_sandbox.oauth.authorization import AuthorizationRequest
from cfaudit_sandbox.oauth.dash import Inner
from cfaudit_sandbox.oauth.dialect import OAuthGeneration
from cfaudit_sandbox.oauth.registration import CLIENT_SECONDS, Registration, registered

CODE_SECONDS = 600.0
TOKEN_PARTS = 3


@dataclass(slots=True)
class AccessToken:
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
    scopes: tuple[str, ...]
    inner: Inner
    code_used: bool = False
    expires_at: float = 0.0
    newest: str = ""
    previous: str = ""
    refreshed_at: float = 0.0
    is_refreshing: bool = False
    access: dict[str, AccessToken] = field(default_factory=dict)

    def mint(self) -> str:
        """Make a token of this grant."""
        return f"{self.user}:{self.id}:{secrets.token_urlsafe(24)}"


class Memory:
    """Clients and grants. Nothing is ever cleaned up; a sandbox does not live that long.

    Attributes:
        grant_seconds: how long a grant lasts from the exchange of its code.
        documents: whether an https URL is taken for a client id. The document itself is not fetched.
    """

    def __init__(self, clock: Callable[[], float], dialect: OAuthGeneration) -> None:
        self.clock = clock
        self.dialect = dialect
        self.clients: dict[str, Registration] = {}
        self.grants: dict[str, GrantRecord] = {}
        self.grant_seconds = 0.0
        self.documents = False

    def register(self, metadata: object) -> dict[str, Any]:
        """Register a client (RFC 7591) and return the answer.

        Raises:
            OAuthFault: the metadata is not accepted.
        """
        client, answer = registered(metadata, self.clock(), self.dialect)
        self.clients[client.id] = client
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

    def authorize(self, user: str, authorization: AuthorizationRequest, inner: Inner) -> GrantRecord:
        """Begin a grant; the same user's earlier grants to the same client end."""
        for old in list(self.grants.values()):
            if old.user == user and old.client_id == authorization.client_id:
                self.end(old)
        resources = authorization.resource or ()
        grant = GrantRecord(
            user=user,
            id=secrets.token_urlsafe(12),
            client_id=authorization.client_id,
            code="",
            code_until=self.clock() + CODE_SECONDS,
            redirect_uri=authorization.redirect_uri,
            challenge=authorization.code_challenge or "",
            challenge_method=authorization.code_challenge_method or "plain",
            resources=(resources,) if isinstance(resources, str) else tuple(resources),
            scopes=tuple(authorization.scope),
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
            self.end(grant)

    def end(self, grant: GrantRecord) -> None:
        """End a grant, and with it all of its tokens."""
        self.grants.pop(f"{grant.user}:{grant.id}", None)
