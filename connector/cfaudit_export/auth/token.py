"""An API token, and what proves who we are when there is none to send."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path

from cfaudit_export.core.installing import install_command
from cfaudit_export.errors import CfauditError, SettingsError

VARIABLE = "CLOUDFLARE_API_TOKEN"

_LOG = logging.getLogger(__name__)
# Cloudflare's own prefixes for scannable tokens; older tokens have none, so their kind cannot be seen.
_KINDS = {"cfut_": "user token", "cfat_": "account token"}
_GRANT_PARTS = 3


class TokenCredential:
    """A Cloudflare API token: sent as it is, never renewed, never shown.

    Raises:
        SettingsError: it cannot be an API token; the message says why and never what it is.
    """

    def __init__(self, token: str, *, where: str = VARIABLE) -> None:
        _check(token, where)
        self._token = token

    def __repr__(self) -> str:
        return f"TokenCredential(kind={self.kind!r})"

    @property
    def kind(self) -> str:
        """The kind that the prefix tells, `token` without one."""
        return next((kind for prefix, kind in _KINDS.items() if self._token.startswith(prefix)), "token")

    @property
    def fingerprint(self) -> str:
        """A digest of the token, from which it cannot be found."""
        return hashlib.sha256(b"cfaudit-export budget\0" + self._token.encode()).hexdigest()

    async def token(self) -> str | None:
        """Return the token."""
        return self._token

    async def renew(self, refused: str) -> bool:  # noqa: ARG002  # the protocol's signature
        """Return False: only a person can replace an API token."""
        return False


class NoCredential:
    """No token at all: a gateway knows us by other headers and holds the token itself."""

    kind = "token"

    async def token(self) -> str | None:
        """Return None."""
        return None

    async def renew(self, refused: str) -> bool:  # noqa: ARG002  # the protocol's signature
        """Return False."""
        return False


class MissingCredential:
    """A credential that could not be read; asking for its token raises the reason."""

    kind = "token"

    def __init__(self, why: CfauditError) -> None:
        self.error = why

    async def token(self) -> str | None:
        """Raise why there is none."""
        raise self.error

    async def renew(self, refused: str) -> bool:  # noqa: ARG002  # the protocol's signature
        """Return False."""
        return False


def read_token_file(path: Path) -> str:
    """Return the token in a file, without the line end; warn when others may read it.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        found = path.stat()
        token = path.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"token_file '{path}' cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"token_file '{path}' does not hold a token but binary data") from None
    # systemd and Kubernetes hand out root's files by way of the group; only one's own is one's own to change.
    ours = found.st_uid == os.geteuid()
    if found.st_mode & (stat.S_IRGRP * ours | stat.S_IROTH):
        _LOG.warning("token file can be read by others", extra={"path": str(path), "do": f"chmod 600 {path}"})
    return token


def read_token_keyring(name: str) -> str:
    """Return the token that the system keyring holds under a name.

    Raises:
        SettingsError: there is no keyring, or nothing in it under this name.
        TryAgainError: it does not answer.
    """
    from cfaudit_export.auth.store import SERVICE, keyring_faults, system_keyring

    keyring = system_keyring(probe=False)
    if keyring is None:
        raise SettingsError(
            "token_keyring is set, but there is no keyring; it needs a desktop session or a keyring service, "
            f"and its library: {install_command('keyring')}"
        )
    with keyring_faults():
        token = keyring.get_password(SERVICE, name)
    if token is None:
        raise SettingsError(f"the keyring holds no token '{name}'; put it there with: keyring set {SERVICE} {name}")
    return token


def _check(token: str, where: str) -> None:
    if not token:
        raise SettingsError(f"{where} is empty; it must hold an API token")
    if token.lower().startswith("bearer "):
        raise SettingsError(f"{where} must hold the token alone, without 'Bearer'")
    if any(character.isspace() for character in token):
        raise SettingsError(f"{where} holds white space or a line end, which no API token has; was it copied whole?")
    if not token.isascii() or not token.isprintable() or token[0] in "'\"":
        raise SettingsError(f"{where} holds characters that no API token has; was it copied with its quotes?")
    if len(token.split(":")) == _GRANT_PARTS:
        raise SettingsError(
            f"{where} holds an OAuth access token (three parts with ':'), which expires within an hour; "
            "use an API token, which starts with 'cfut_' or 'cfat_'"
        )
