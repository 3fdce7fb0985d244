"""A grant that is kept -> nothing, here and, if it can be reached, at the server (RFC 7009)."""

from __future__ import annotations

from collections.abc import Callable

from cfaudit_export.auth.endpoint import NotNowError, RefusedError, TokenEndpoint
from cfaudit_export.auth.grants import Grant
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import AccessError, ProtocolError

_LOCK_SECONDS = 120.0


def sign_out(
    store: GrantStore,
    server_url: str,
    profile: str,
    *,
    tell: Callable[[str], None],
    hide: Callable[[str], None] = lambda _secret: None,
) -> bool:
    """Revoke and remove the sign-in at `server_url`; return False when there was none.

    It is removed also when the server cannot be reached, or what is kept cannot be read; `tell` then says so. `hide` is
    told of every secret before a server hears of it, as it may say it back.

    Raises:
        TryAgainError: it cannot be removed, or another process is renewing it all the time.
    """
    with store.hold(server_url, profile, wait_seconds=_LOCK_SECONDS):
        try:
            grant = store.find(server_url, profile)
        except AccessError as error:
            tell(f"the sign-in was deleted here, but not revoked: {error}")
            store.clear(server_url, profile)
            return True
        if grant is None:
            return False
        for secret in grant.secrets:
            hide(secret)
        problem = revoke(grant)
        store.clear(server_url, profile)
    if problem is not None:
        tell(
            f"the sign-in was deleted here, but not revoked at '{shown(grant.issuer)}': {problem}; "
            f"it ends by itself{_end(grant)}"
        )
    return True


def revoke(grant: Grant) -> str | None:
    """End a grant at its server; return why that failed, None when it did not."""
    if grant.revocation_endpoint is None:
        return "the server has no revocation endpoint"
    try:
        with TokenEndpoint(grant.client, grant.token_endpoint) as endpoint:
            endpoint.revoke(grant.revocation_endpoint, grant.refresh_token or grant.access_token)
    except (RefusedError, NotNowError, ProtocolError) as error:
        return str(error)
    return None


def _end(grant: Grant) -> str:
    return f" on {grant.grant_expires_at:%Y-%m-%d}" if grant.grant_expires_at else ""
