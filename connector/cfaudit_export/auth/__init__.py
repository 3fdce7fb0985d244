"""Who we are: settings and environment -> the credential that a source asks for its bearer token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from cfaudit_export.auth.token import (
    VARIABLE,
    NoCredential,
    TokenCredential,
    read_token_file,
    read_token_keyring,
)
from cfaudit_export.errors import AccessError, SettingsError
from cfaudit_export.plugin.records import Credential
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import DEFAULT_PROFILE

if TYPE_CHECKING:
    from cfaudit_export.auth.grants import Grant
    from cfaudit_export.auth.store import GrantStore

_RENEWAL_SECONDS = 60.0


def credential_for(
    settings: Settings,
    server_url: str,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None] = lambda _secret: None,
) -> Credential:
    """Return the credential of a run. Never asks a person.

    The first that is there: an `Authorization` header of the settings, the API token of the environment, of
    `token_file`, of `token_keyring`, the sign-in at `server_url`, nothing at all for a gateway that knows us by other
    headers.

    Args:
        settings: what is wanted.
        server_url: the server that will see it.
        environ: `CLOUDFLARE_API_TOKEN`, and the variables that headers take their values from.
        clock: the time, aware and UTC.
        hide: told of every secret that is found.

    Raises:
        AccessError: there is none, or it cannot be read.
        SettingsError: what is there cannot be a token, or cannot be read.
        TryAgainError: it is in the keyring, and that does not answer.
    """
    for variable in settings.header.values():
        for word in environ.get(variable, "").split():
            hide(word)
    if any(name.lower() == "authorization" for name in settings.header):
        return NoCredential()
    for token, where in _tokens(settings, environ):
        hide(token)
        return TokenCredential(token, where=where)
    if (grant := kept_grant(settings, server_url)) is not None:
        return _signed_in(settings, grant, clock, hide)
    if settings.header and settings.profile == DEFAULT_PROFILE:
        return NoCredential()
    from cfaudit_export.auth.grants import login_command

    raise AccessError(f"no credential for '{server_url}'; run: {login_command(settings.profile)}, or set {VARIABLE}")


def budget_owner(settings: Settings, credential: Credential) -> str:
    """Return what tells whose budget of calls a credential spends, without its secret: a digest, or a sign-in's name.

    Two tokens of one user are told apart, although they spend one budget.
    """
    if isinstance(credential, TokenCredential):
        return credential.fingerprint
    return f"{credential.kind} {settings.profile}"


def header_values(headers: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return headers with the values of the variables that are named for them.

    Raises:
        SettingsError: a variable is not set, or its value cannot be one of a header.
    """
    values = {}
    for name, variable in headers.items():
        value = environ.get(variable)
        if value is None:
            raise SettingsError(f"the header '{name}' takes its value from the variable '{variable}', which is not set")
        if not (value.isascii() and value.isprintable()):
            raise SettingsError(f"the variable '{variable}' holds characters that the header '{name}' cannot have")
        values[name] = value
    return values


def grant_store(settings: Settings, *, to_write: bool = False) -> GrantStore:
    """Return where sign-ins are kept; `to_write` looks for a keyring to keep a new one in, where that is wanted."""
    from cfaudit_export.auth.store import GrantStore, system_keyring

    return GrantStore(settings.state_dir, keyring=system_keyring() if to_write and settings.keyring == "auto" else None)


def kept_grant(settings: Settings, server_url: str) -> Grant | None:
    """Return the sign-in at a server, None when there is none.

    Raises:
        AccessError: there is one, and it cannot be read.
        TryAgainError: it is in the keyring, and that does not answer.
    """
    return grant_store(settings).find(server_url, settings.profile)


def _tokens(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each API token there is, and where it is from."""
    if token := environ.get(VARIABLE):
        yield token, VARIABLE
    if settings.token_file:
        yield read_token_file(settings.token_file), f"token_file '{settings.token_file}'"
    if settings.token_keyring:
        yield read_token_keyring(settings.token_keyring), f"the keyring's '{settings.token_keyring}'"


def _signed_in(
    settings: Settings, grant: Grant, clock: Callable[[], datetime], hide: Callable[[str], None]
) -> Credential:
    from cfaudit_export.auth.oauth import OAuthCredential

    for secret in grant.secrets:
        hide(secret)
    wait = settings.max_wait
    return OAuthCredential(
        grant_store(settings),
        grant.resource,
        grant.profile,
        clock=clock,
        retry_seconds=_RENEWAL_SECONDS if wait is None else min(_RENEWAL_SECONDS, wait.total_seconds()),
        hide=hide,
    )
