"""What a sign-in leaves behind: the grant, and what a renewal makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cfaudit_export.auth.endpoint import Tokens
from cfaudit_export.auth.registration import Client
from cfaudit_export.settings.options import DEFAULT_PROFILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A sign-in that is remembered.

    Attributes:
        issuer: the authorization server that gave it; no other server is ever shown it.
        resource: the URL of the MCP server it is for.
        profile: tells several sign-ins at one server apart.
        audience: the name of the resource in token requests (RFC 8707); empty to leave it out.
        client: who we are to the issuer.
        token_endpoint: where it is refreshed.
        revocation_endpoint: where it can be ended.
        access_token: the bearer token.
        refresh_token: for the next access token; None when the server gave none.
        previous_refresh_token: the one that produced `refresh_token`; a server may still take it.
        signed_in_at: when a person signed in.
        renewed_at: when the access token was issued.
        expires_at: when the access token ends; None when the server did not say.
        grant_expires_at: when a person must sign in again; None when that is not known.
        scope: what was granted, as the server says it.
        refused_at: when a renewal was refused for good; None while the last one was not.
        refusal: what the server said then.
    """

    issuer: str
    resource: str
    profile: str
    audience: str
    client: Client
    token_endpoint: str
    revocation_endpoint: str | None = None
    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    previous_refresh_token: str | None = field(default=None, repr=False)
    signed_in_at: datetime
    renewed_at: datetime
    expires_at: datetime | None = None
    grant_expires_at: datetime | None = None
    scope: str | None = None
    refused_at: datetime | None = None
    refusal: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return everything in this grant that must not be shown."""
        every = (self.access_token, self.refresh_token, self.previous_refresh_token, self.client.secret)
        return tuple(secret for secret in every if secret)

    def renewed(self, tokens: Tokens, presented: str, now: datetime) -> Grant:
        """Return the grant after a refresh in which the refresh token `presented` was accepted."""
        rotated = tokens.refresh_token is not None and tokens.refresh_token != presented
        return replace(
            self,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token or presented,
            previous_refresh_token=presented if rotated else None,
            renewed_at=now,
            expires_at=after(now, tokens.expires_in_seconds),
            scope=tokens.scope or self.scope,
            refused_at=None,
            refusal=None,
        )


def after(now: datetime, seconds: float | None) -> datetime | None:
    """Return the time so many seconds after `now`, None for an unknown number."""
    return None if seconds is None else now + timedelta(seconds=seconds)


def login_command(profile: str) -> str:
    """Return what to run to sign in."""
    return "cfaudit-export login" + ("" if profile == DEFAULT_PROFILE else f" --profile {profile}")


def dead_because(grant: Grant) -> str | None:
    """Return why a sign-in cannot be renewed any more, in one sentence with what to do; None where it can.

    It is what the latest renewal was told. An access token that is still good may outlive it by some minutes.
    """
    if grant.refused_at is None:
        return None
    return (
        f"the sign-in at '{grant.resource}' was refused on {grant.refused_at:%Y-%m-%d %H:%M} UTC: {grant.refusal}; "
        f"run: {login_command(grant.profile)}"
    )


def grant_days_left(grant: Grant, now: datetime) -> float | None:
    """Return how many days remain until a person must sign in again, 0 when none; None when that is not known."""
    if grant.grant_expires_at is None:
        return None
    return max((grant.grant_expires_at - now) / timedelta(days=1), 0.0)
