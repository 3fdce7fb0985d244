"""A server over HTTP, for several clients at once: Streamable HTTP, without sessions."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import ValidationError
from starlette.types import ASGIApp

from cfaudit_export.errors import SettingsError, UsageError
from cfaudit_export.serve.access import FileTokenVerifier, NamedHosts, WebAddress
from cfaudit_export.serve.jwt import IssuedTokenVerifier, TokenIssuer
from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.serve.server import build_server

_MOST_CONNECTIONS = 200
_MOST_REQUEST_BYTES = 1 << 20
_STOP_SECONDS = 5
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class WebAccess:
    """Who may ask over HTTP.

    Attributes:
        token: the bearer token, None without one.
        issuer: whose tokens are accepted, None without one.
        public_url: the URL by which clients reach this server, None where that is its address.
        hosts: further names of this server.
        origins: origins of web pages that may ask.
    """

    token: str | None = field(default=None, repr=False)
    issuer: TokenIssuer | None = None
    public_url: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def serve_web(order: ServeOrder, address: WebAddress, access: WebAccess, ready: Callable[[str], object]) -> None:
    """Serve until a signal to stop comes. Call it from the main thread.

    Args:
        order: what is served.
        address: where.
        access: to whom.
        ready: is told the URL as soon as connections are accepted.

    Raises:
        SettingsError: others than this machine could ask without a token, or the address cannot be used.
    """
    if not address.is_loopback and access.token is None and access.issuer is None:
        raise SettingsError(
            f"'{address.host}' can be reached by others: name a file with a token, as in --token-file token.txt, or "
            "whose tokens are accepted, as in --oauth-issuer https://login.example.com"
        )
    built = build_server(order)
    try:
        listener = _listen(address)
        bound = WebAddress(address.host, listener.getsockname()[1])
        app = _app(built.server, bound, access)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                lifespan="on",
                limit_concurrency=_MOST_CONNECTIONS,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
        )
        ready(access.public_url or bound.url)
        with _stopping(server):
            server.run(sockets=[listener])
    finally:
        built.worker.close()


def _app(server: Any, address: WebAddress, access: WebAccess) -> ASGIApp:
    app = server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        max_request_body_size=_MOST_REQUEST_BYTES,
        # `NamedHosts` looks at them, for every path.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        auth=_auth(address, access),
        token_verifier=_verifier(access),
    )
    public = urlsplit(access.public_url or "").hostname
    return NamedHosts(app, [*access.hosts, *([public] if public else [])], access.origins)


def _verifier(access: WebAccess) -> TokenVerifier | None:
    if access.issuer is not None:
        return IssuedTokenVerifier(access.issuer, time.time)
    return FileTokenVerifier(access.token) if access.token is not None else None


def _auth(address: WebAddress, access: WebAccess) -> AuthSettings | None:
    """Return how the SDK asks for a token; with an issuer it publishes the metadata of RFC 9728."""
    url = access.public_url or address.url
    try:
        if access.issuer is not None:
            # As texts: a URL made beforehand has a slash at its end, and issuers are compared letter by letter.
            return AuthSettings.model_validate(
                {
                    "issuer_url": access.issuer.issuer,
                    "resource_server_url": url,
                    "required_scopes": list(access.issuer.scopes) or None,
                    "validate_token_resource": False,  # the verifier looks at the audience
                }
            )
        if access.token is not None:
            return AuthSettings.model_validate({"issuer_url": url, "resource_server_url": None})
    except ValidationError:
        raise SettingsError(f"--public-url, --oauth-issuer: expected URLs, not '{url}'") from None
    return None


def _listen(address: WebAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"--http: cannot listen on {address.host}:{address.port}: {error.strerror}") from None
    return listener


class _Server(uvicorn.Server):
    """A server that leaves signals to `_stopping`: uvicorn's own handlers end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextmanager
def _stopping(server: uvicorn.Server) -> Iterator[None]:
    """Let signals end the server, so that what was asked is still answered."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
