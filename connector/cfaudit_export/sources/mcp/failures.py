"""Everything that can go wrong with a request to an MCP server -> one of a few kinds, each with what to do.

This is the only table of it. Exceptions of the HTTP library and of the MCP SDK arrive in any nesting of groups, at
opening and in the middle; replies that are no replies arrive with any status. Nothing of it is a fault of this program.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import anyio
import httpx2
from mcp import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
)

from cfaudit_export.core.causes import chain, is_untrusted
from cfaudit_export.core.escape import shown
from cfaudit_export.errors import (
    AccessError,
    CfauditError,
    ProtocolError,
    SettingsError,
    SourceUnavailableError,
    ThrottledError,
)
from cfaudit_export.http.exchange import ReplyTooLargeError

PERMISSION = "Account Settings: Read"

Kind = Literal["retry", "throttled", "access", "odd", "shape", "protocol", "too_large", "settings"]
"""What a failure means.

`retry`: it passes; `throttled`: too many calls; `access`: the credential is refused; `rejected`: a reply that is none,
as a proxy's page; `shape`: a reply that does not fit the protocol; `protocol`: the server refuses what it is asked;
`too_large`: more bytes than a reply may have; `settings`: a person must change something here.
"""

# How often the same question is asked again after such a failure, before a session was open and after; None: as long
# as retrying may take. One refusal among many answers is seen of gateways with several nodes, so all have a second
# look; but who has the wrong URL should hear of it soon.
LOOKS: dict[Kind, tuple[int | None, int | None]] = {
    "retry": (None, None),
    "throttled": (None, None),
    "access": (1, 1),
    "odd": (2, None),
    "shape": (1, 2),
    "protocol": (0, 2),
    "too_large": (1, 1),
    "settings": (0, 2),
}

# From the most telling on: the first that fits counts.
_EXCEPTIONS: tuple[tuple[type[BaseException], Kind, str], ...] = (
    (ReplyTooLargeError, "too_large", ""),
    (httpx2.ConnectTimeout, "retry", "no connection in time"),
    (httpx2.TimeoutException, "retry", "no reply in time"),
    (httpx2.ProxyError, "retry", "the proxy fails"),
    (httpx2.ConnectError, "retry", "connection refused or impossible"),
    (httpx2.UnsupportedProtocol, "protocol", ""),
    (httpx2.LocalProtocolError, "protocol", ""),
    (httpx2.TransportError, "retry", "the connection broke"),
    (httpx2.DecodingError, "retry", "the reply is damaged"),
    (httpx2.HTTPError, "retry", "the reply is damaged"),
    (httpx2.StreamError, "retry", "the connection broke"),
    (httpx2.InvalidURL, "protocol", "the server names an invalid URL"),
    (ssl.SSLError, "retry", "the connection broke"),
    (anyio.ClosedResourceError, "retry", "the session broke"),
    (anyio.BrokenResourceError, "retry", "the session broke"),
    (anyio.EndOfStream, "retry", "the session broke"),
    (TimeoutError, "retry", "no reply in time"),
    (OSError, "retry", "the connection broke"),
    (RecursionError, "shape", "the reply is nested too deeply"),
)
_RPC_KINDS: dict[int, tuple[Kind, str]] = {
    REQUEST_TIMEOUT: ("retry", "no reply in time"),
    CONNECTION_CLOSED: ("retry", "the reply ends early"),
    INTERNAL_ERROR: ("retry", "the server fails"),
    PARSE_ERROR: ("odd", "the reply is not JSON-RPC"),
    INVALID_REQUEST: ("protocol", ""),
    METHOD_NOT_FOUND: ("protocol", ""),
}
# What gateways say of a session that they ended, in the words of a dozen of them.
_SESSION_ENDED = re.compile(
    r"\bsessions?\b.{0,60}\b(not found|not exist|unknown|invalid|expired|terminated|closed|ended|missing|required|gone)"
    r"|\b(no|unknown|invalid|expired|missing|bad|lost|terminated|inactive)\b.{0,20}\bsession",
    re.IGNORECASE | re.DOTALL,
)
_LONGEST_SAYING = 1_000
# How the SDK says that one event is larger than it may be.
_EVENT_TOO_LARGE = "SSE stream failed: Server-sent event exceeded"
# What to do about a certificate, and about a proxy that wants to know who asks.
_SETTINGS = {
    False: "check the server URL, or name the certificates to trust in SSL_CERT_FILE",
    True: "put name and password of the proxy into HTTPS_PROXY",
}
# Systems differ in which of them they have.
_NO_SUCH_HOST = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA")}


class CallFailedError(Exception):
    """A call brought no reply of the tool.

    Attributes:
        kind: what to do about it.
        status: HTTP status, None when the connection failed or timed out.
        retry_after_seconds: what the server asked us to wait, if it did.
        detail: one line for people; the server's message is cut and made printable.
        ended_session: the server does not know the session any more, so that another one has to be opened.
        unknown_host: there is no host of that name, which seldom changes by itself.
        is_early: no session was ever open, so that the URL itself may be wrong.
        hint: what else may help, for the message.
        sent_at: when the call was sent, by the clock of the budget; None where it was not noted.
    """

    def __init__(
        self,
        detail: str,
        kind: Kind | None = None,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        ended_session: bool = False,
        unknown_host: bool = False,
    ) -> None:
        super().__init__(detail)
        self.kind: Kind = kind or _kind_of_status(status)
        self.detail = detail
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.ended_session = ended_session
        self.unknown_host = unknown_host
        self.is_early = False
        self.hint = ""
        self.sent_at: float | None = None

    @property
    def looks(self) -> int | None:
        """How often the same question may be asked again; None for as long as retrying may take."""
        early, later = LOOKS[self.kind]
        return early if self.is_early else later

    def as_error(self, url: str) -> CfauditError:  # noqa: PLR0911  # one kind, one error
        """Return the error to end the run with when retrying is over."""
        host = urlsplit(url).netloc.rpartition("@")[2]
        match self.kind:
            case "access":
                return self._access_error(host)
            case "throttled":
                return ThrottledError(
                    f"'{host}' throttles this credential; try again in five minutes",
                    retry_after_seconds=self.retry_after_seconds or 300.0,
                )
            case "settings":
                return SettingsError(f"'{host}' cannot be used: {self.detail}; {_SETTINGS[self.status == 407]}")
            case "too_large":
                return ProtocolError(
                    f"'{host}' sends too large a reply ({self.detail}); ask for fewer rows with page_size, or raise "
                    "max_reply_bytes"
                )
            case "retry":
                return self._passing_error(host)
            case _ if self.is_early:
                return ProtocolError(
                    f"'{host}' does not answer like an MCP server ({self.detail}); check the server URL{self.hint}"
                )
            case "odd":
                return self._passing_error(host)
            case _:
                return ProtocolError(f"'{host}' does not answer like an MCP server any more ({self.detail})")

    def _access_error(self, host: str) -> AccessError:
        if self.status == 403:
            return AccessError(
                f"'{host}' says the credential lacks a permission ({self.detail}); a user token needs the permissions "
                "'User Details: Read' and 'Account Settings: Read', an account token 'Account Settings: Read'"
            )
        return AccessError(
            f"'{host}' refuses the credential ({self.detail}); check the token, or sign in with: cfaudit-export login"
        )

    def _passing_error(self, host: str) -> SourceUnavailableError:
        if self.unknown_host:
            return SourceUnavailableError(f"'{host}' cannot be found ({self.detail}); check the server URL")
        return SourceUnavailableError(f"'{host}' cannot be reached ({self.detail}); try again later{self.hint}")


def failure_of(error: BaseException) -> CallFailedError:
    """Return what an exception means, in whatever groups it is wrapped.

    Raises:
        CfauditError: it is, or wraps, one that says already what to do.
        BaseException: it is, or wraps, what must not be caught, such as a cancellation.
    """
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, CfauditError) or not isinstance(leaf, Exception):
            raise leaf
    # Of several the one that says most: passing faults are what the others led to.
    order = sorted(LOOKS, key=lambda kind: kind == "retry")
    return min(map(_meaning, leaves), key=lambda failure: order.index(failure.kind))


def _meaning(error: BaseException) -> CallFailedError:
    """Return what one exception means by the table."""
    if isinstance(error, CallFailedError):
        return error
    if isinstance(error, MCPError):
        return _rpc_failure(error)
    if is_untrusted(error):
        return _failure(error, "settings", "its certificate is not trusted")
    for type_, kind, words in _EXCEPTIONS:
        if isinstance(error, type_):
            return _failure(error, kind, words)
    # Only the SDK was called: what it cannot make sense of came from the server.
    return CallFailedError(f"the reply does not fit the protocol: {type(error).__name__}", "shape")


def says_session_ended(text: str) -> bool:
    """Say whether these words of a server mean that it does not know the session."""
    return len(text) <= _LONGEST_SAYING and _SESSION_ENDED.search(text) is not None


def _kind_of_status(status: int | None) -> Kind:
    if status is None or status >= 500 or status in (408, 421, 425):
        return "retry"
    if status == 429:
        return "throttled"
    if status in (401, 403):
        return "access"
    if status == 407:
        return "settings"
    return "odd" if status < 300 else "protocol"


def _failure(error: BaseException, kind: Kind, words: str) -> CallFailedError:
    said = shown(str(error))
    if isinstance(error, httpx2.ProxyError) and said.startswith("407"):
        return CallFailedError(f"the proxy refuses ({said})", status=407)
    detail = f"{words}: {said}" if words and said else words or said or type(error).__name__
    return CallFailedError(detail, kind, unknown_host=_is_unknown_host(error))


def _rpc_failure(error: MCPError) -> CallFailedError:
    """Return what an error of JSON-RPC means; the SDK uses the same codes for errors of its own."""
    said = shown(error.error.message)
    if says_session_ended(error.error.message):
        return CallFailedError(said, "protocol", ended_session=True)
    if error.error.message.startswith(_EVENT_TOO_LARGE):
        return CallFailedError(said, "too_large")
    kind, words = _RPC_KINDS.get(error.error.code, ("shape", ""))
    return CallFailedError(f"{words}: {said}" if words and said else words or said or "error without a message", kind)


def _is_unknown_host(error: BaseException) -> bool:
    """Say whether a connection failed because its host has no address; not whether names cannot be looked up now."""
    if isinstance(error, httpx2.ProxyError):
        return False
    return any(isinstance(one, socket.gaierror) and one.errno in _NO_SUCH_HOST for one in chain(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
