"""Who may ask over HTTP: addresses and names that are accepted, and the one bearer token of a file."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cfaudit_export.errors import SettingsError, UsageError

_LEAST_CHARACTERS = 20
_MOST_BYTES = 4096
_LOOPBACK_NAMES = ("localhost",)


@dataclass(frozen=True, slots=True)
class WebAddress:
    """Where a server listens.

    Attributes:
        host: an address, or `localhost`.
        port: the port; 0 for a free one.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/mcp"


def read_address(text: str) -> WebAddress:
    """Return what `HOST:PORT` says.

    Raises:
        UsageError: it is none.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"--http: expected HOST:PORT, as in 127.0.0.1:8080, not '{text}'")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise UsageError(f"--http: expected an address such as 127.0.0.1 or 0.0.0.0, not '{host}'") from None
    return WebAddress(host, int(port))


def is_loopback(host: str) -> bool:
    """Say whether a name or an address means this machine, and no other can use it."""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(file: Path) -> str:
    """Return the token that a file holds.

    Raises:
        SettingsError: it cannot be read, holds none, or one that is easily guessed.
    """
    try:
        with file.expanduser().open("rb") as stream:
            token = stream.read(_MOST_BYTES + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise SettingsError(f"--token-file: '{file}' cannot be read: {why}") from None
    if len(token) < _LEAST_CHARACTERS or len(token) > _MOST_BYTES or any(one.isspace() for one in token):
        raise SettingsError(
            f"--token-file: '{file}' must hold one token of {_LEAST_CHARACTERS} characters or more; make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


class FileTokenVerifier:
    """Accepts one token. The protocol is that of the SDK."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token allows, None if it is not the one; how alike the two are takes no part in the time."""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
            return None
        return AccessToken(token=token, client_id="token-file", scopes=[])


class NamedHosts:
    """Refuses requests that a browser was tricked into: under a name that is not this server's, or from another page.

    An attacker's name may resolve to this server's address; its address, written as such, is only its own.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], origins: Collection[str]) -> None:
        """Build it with the names of this server beside those of loopback, and with origins of pages that may ask."""
        self._app = app
        self._names = {name.lower() for name in names}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 421 or 403."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if not self._is_named(host):
                await PlainTextResponse("Invalid Host header", 421)(scope, receive, send)
                return
            if origin is not None and not self._may_ask(origin):
                await PlainTextResponse("Invalid Origin header", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_named(self, host: str) -> bool:
        name = _name(f"//{host}")
        return name is not None and (is_loopback(name) or name in self._names or _is_address(name))

    def _may_ask(self, origin: str) -> bool:
        name = _name(origin)
        return origin.lower() in self._origins or (name is not None and is_loopback(name))


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
