"""A request that brought no answer of the tool -> why, with the HTTP status and in words for people.

The SDK hides status, body and Retry-After of a refused request behind one error. A response hook keeps them, found
again by the request's own method and arguments, so that calls in flight at the same time are not confused.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from cfaudit_export.errors import AccessError, ProtocolError, SourceUnavailableError, ThrottledError
from cfaudit_export.escape import shown

# What servers say to a session that they ended. The protocol has 404 for it; the most common SDK says 400.
_ENDED = (400, 404, 410)
_SESSION_HEADER = "mcp-session-id"
# Systems differ in which of them they have.
_NO_SUCH_HOST = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA")}
_OPENING = ("tools/list", "initialize", "server/discover")


class CallFailedError(Exception):
    """A call brought no reply of the tool.

    Attributes:
        status: HTTP status, None when the connection failed or timed out.
        retry_after_seconds: what the server asked us to wait, if it did.
        detail: one line for people; server's words are cut and made printable.
        ended_session: the server does not know the session any more, so that another one has to be opened.
        unknown_host: there is no host of that name, which seldom changes by itself.
        sent_at: when the call was sent, by the clock of the pace; None where nobody noted it.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        ended_session: bool = False,
        unknown_host: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.ended_session = ended_session
        self.unknown_host = unknown_host
        self.sent_at: float | None = None

    @property
    def passing(self) -> bool:
        """Say whether the same call may succeed later without anybody doing anything."""
        return self.status is None or self.status >= 500 or self.status in (408, 425, 429)

    def as_error(self, url: str) -> Exception:
        """Return the error to end the run with when retrying is over."""
        host = urlsplit(url).netloc
        if self.status == 401:
            return AccessError(
                f"'{host}' refuses the credential ({self.detail}); check the token, "
                "or sign in with: cfaudit-export login"
            )
        if self.status == 403:
            return AccessError(
                f"'{host}' says the credential lacks a right ({self.detail}); a user token needs the permissions "
                "'User Details: Read' and 'Account Settings: Read', an account token 'Account Settings: Read'"
            )
        if self.status == 429:
            return ThrottledError(
                f"'{host}' throttles this credential; try again in five minutes",
                retry_after_seconds=self.retry_after_seconds or 300.0,
            )
        if self.unknown_host:
            return SourceUnavailableError(f"'{host}' cannot be found ({self.detail}); check the server URL")
        if self.passing:
            return SourceUnavailableError(f"'{host}' cannot be reached ({self.detail}); try again later")
        return ProtocolError(f"'{host}' does not answer like an MCP server ({self.detail}); check the server URL")


class Refusals:
    """Replies of status 400 and above, by the request they answer."""

    def __init__(self) -> None:
        self._by_request: dict[str, CallFailedError] = {}

    async def note(self, response: httpx2.Response) -> None:
        """Look at a reply, as a response hook."""
        key, status = _request_key(response.request), response.status_code
        self._by_request.pop(key, None)
        if status < 400 or not key:
            return
        await response.aread()
        retry_after = response.headers.get("retry-after", "")
        self._by_request[key] = CallFailedError(
            f"HTTP {status}{_said(response)}",
            status=status,
            retry_after_seconds=float(retry_after) if retry_after.isdigit() else None,
            ended_session=status in _ENDED and _SESSION_HEADER in response.request.headers,
        )

    def of_call(self, arguments: Mapping[str, Any]) -> CallFailedError | None:
        """Return how a call of a tool was refused, None when it was not."""
        return self._by_request.pop(_key("tools/call", arguments), None)

    def of_opening(self) -> CallFailedError | None:
        """Return how the latest step of opening a session was refused, None when it was not."""
        found = [self._by_request.pop(_key(method, None), None) for method in _OPENING]
        return next((one for one in found if one is not None), None)


def transport_failure(error: BaseException) -> CallFailedError:
    """Return how a connection failed, in one line."""
    words: dict[type[BaseException], str] = {
        httpx2.ConnectTimeout: "no connection in time",
        httpx2.ReadTimeout: "no reply in time",
        httpx2.ConnectError: "connection refused or impossible",
        httpx2.RemoteProtocolError: "the connection broke",
        httpx2.ReadError: "the connection broke",
    }
    said = shown(str(error))
    word = words.get(type(error), type(error).__name__)
    return CallFailedError(f"{word}: {said}" if said else word, unknown_host=_is_unknown_host(error))


def _is_unknown_host(error: BaseException | None) -> bool:
    """Say whether a connection failed because its host has no address; not whether names cannot be looked up now."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.errno in _NO_SUCH_HOST
        error = error.__cause__ or error.__context__
    return False


def _request_key(request: httpx2.Request) -> str:
    try:
        body = json.loads(request.content)
        return _key(body["method"], body.get("params", {}).get("arguments"))
    except (ValueError, KeyError, AttributeError, httpx2.RequestNotRead):
        return ""


def _key(method: str, arguments: Mapping[str, Any] | None) -> str:
    return json.dumps([method, arguments], sort_keys=True)


def _said(response: httpx2.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    said = body.get("error_description") or (error.get("message") if isinstance(error, dict) else error)
    return f": {shown(said)}" if isinstance(said, str) else ""
