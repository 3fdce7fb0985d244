"""Settings and a source -> what proves who we are, and what is done where nothing does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cfaudit_export.app.resolve import server_url_of
from cfaudit_export.auth import credential_for
from cfaudit_export.auth.token import MissingCredential, NoCredential
from cfaudit_export.errors import AccessError, TryAgainError
from cfaudit_export.plugin.records import Credential, SourcePlugin
from cfaudit_export.settings import Settings


def credential_of(
    settings: Settings,
    source: tuple[SourcePlugin, Any],
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None],
) -> Credential:
    """Return the credential for the server of a source; one that is missing says so when it is asked for a token."""
    if not source[0].needs_credential:
        return NoCredential()
    try:
        return credential_for(settings, server_url_of(source), environ=environ, clock=clock, hide=hide)
    except (AccessError, TryAgainError) as error:
        return MissingCredential(error)


def require_credential(*credentials: Credential) -> None:
    """Find out before anything is connected that no source has a credential.

    Raises:
        AccessError, TryAgainError: what is wrong with the last one.
    """
    missing = [one.error for one in credentials if isinstance(one, MissingCredential)]
    if len(missing) == len(credentials):
        raise missing[-1]
