"""How each generation of the OAuth half speaks, and where its endpoints stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FIRST_SCOPES = ("user:read", "offline_access", "account:read", "auditlogs:read")


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthGeneration:
    """A generation of the OAuth half.

    Attributes:
        prefix: stands before the paths of all endpoints, and ends the issuer.
        authorize_path: where a sign-in begins, behind the prefix.
        scopes: what every sign-in is given.
        catalog: further scopes that may be asked for; without them what is asked for is not looked at.
        strict: PKCE with S256 only, `iss`, errors by redirect, registrations that are checked (from 0.20.9 on).
        resource: the path of the one resource that every token is bound to; such a generation also tells the client
            when a person refuses, ends a grant that the dashboard refuses, and redirects to https or the loopback
            only. Empty: any path is a resource.
        asks_always: the consent page comes each time.
        refreshes_alone: a refresh of a grant is refused while another one of it is under way.
    """

    prefix: str = ""
    authorize_path: str = "/oauth/authorize"
    scopes: tuple[str, ...] = _FIRST_SCOPES
    catalog: tuple[str, ...] = ()
    strict: bool = False
    resource: str = ""
    asks_always: bool = False
    refreshes_alone: bool = False

    def granted(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        """Return the scopes of a sign-in that asked for some."""
        return (*self.scopes, *(name for name in self.catalog if name in asked))


AUDITLOGS: Mapping[str, OAuthGeneration] = {
    "today": OAuthGeneration(),
    "0.20.9": OAuthGeneration(strict=True),
    "next": OAuthGeneration(strict=True, resource="/mcp"),
}
"""The dialects of the Audit Logs server, by generation."""

CODEMODE = OAuthGeneration(
    prefix="/codemode",
    authorize_path="/authorize",
    scopes=("user:read", "offline_access", "account:read"),
    catalog=("account-settings.read", "account-settings.write", "account-logs.read", "zone.read"),
    strict=True,
    resource="/codemode/mcp",
    asks_always=True,
    refreshes_alone=True,
)
"""The dialect of the late code-mode servers."""

READS_LOGS = frozenset({"auditlogs:read", "account-settings.read", "account-settings.write"})
"""The scopes of which one is needed to read an audit log."""
