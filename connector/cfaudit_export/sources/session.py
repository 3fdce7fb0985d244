"""One MCP session over Streamable HTTP: tool calls in, texts out, and every failure with its HTTP status.

The SDK hides status, body and Retry-After of a refused request behind one error. A response hook keeps them, found
again by the request's own method and arguments, so that calls in flight at the same time are not confused.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import REQUEST_TIMEOUT, TextContent, Tool

from cfaudit_export.errors import AccessError, ProtocolError, SettingsError, SourceUnavailableError, ThrottledError
from cfaudit_export.records import Credential

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a tool said: its text, and whether it calls that an error."""

    text: str
    is_error: bool


class CallFailedError(Exception):
    """A call brought no reply of the tool.

    Attributes:
        status: HTTP status, None when the connection failed or timed out.
        retry_after_seconds: what the server asked us to wait, if it did.
        detail: one line for people; server's words are cut and made printable.
    """

    def __init__(self, detail: str, *, status: int | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    @property
    def passing(self) -> bool:
        """Say whether the same call may succeed later without anybody doing anything."""
        return self.status is None or self.status >= 500 or self.status in (408, 425, 429)

    def as_error(self, url: str) -> Exception:
        """Return the error to end the run with when retrying is over."""
        host = urlsplit(url).netloc
        if self.status == 401:
            return AccessError(f"'{host}' refuses the credential ({self.detail}); check the token, or sign in again")
        if self.status == 403:
            return AccessError(
                f"'{host}' says the credential lacks a right ({self.detail}); a user token needs the permissions "
                "'User Details: Read' and 'Account Settings: Read', an account token 'Account Settings: Read'"
            )
        if self.status == 429:
            return ThrottledError(f"'{host}' throttles this credential; try again in five minutes")
        if self.passing:
            return SourceUnavailableError(f"'{host}' cannot be reached ({self.detail}); try again later")
        return ProtocolError(f"'{host}' does not answer like an MCP server ({self.detail}); check the server URL")


class Session:
    """An open session. Calls may be in flight at the same time."""

    def __init__(self, client: Client, refusals: _Refusals) -> None:
        self._client = client
        self._refusals = refusals

    @property
    def protocol(self) -> str:
        """The protocol revision agreed on."""
        return self._client.protocol_version

    @property
    def server(self) -> str:
        """Name and version of the server."""
        info = self._client.server_info
        return printable(f"{info.name} {info.version}") if info else "unnamed"

    async def tools(self) -> list[Tool]:
        """List every tool. Must come before the first call: else the SDK lists after it, at the page's risk."""
        tools: list[Tool] = []
        cursor: str | None = None
        for _ in range(100):
            listing = await self._guarded("tools/list", None, self._client.list_tools(cursor=cursor))
            tools += listing.tools
            cursor = listing.next_cursor
            if not cursor:
                return tools
        raise ProtocolError("the server's list of tools does not end")

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Reply:
        """Call a tool, once.

        Raises:
            CallFailedError: there is no reply of the tool.
        """
        result = await self._guarded("tools/call", arguments, self._client.call_tool(tool, dict(arguments)))
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        if len(texts) != 1:
            raise ProtocolError(f"the tool answered with {len(texts)} texts instead of one; please report this")
        return Reply(texts[0], bool(result.is_error))

    async def _guarded(self, method: str, arguments: Mapping[str, Any] | None, call: Any) -> Any:
        try:
            return await call
        except MCPError as error:
            refusal = self._refusals.pop(method, arguments)
            if refusal is not None:
                raise refusal from error
            if error.error.code == REQUEST_TIMEOUT:
                raise CallFailedError("no reply in time") from error
            raise CallFailedError(printable(error.error.message), status=400) from error
        except (httpx2.TransportError, ssl.SSLError) as error:
            raise CallFailedError(describe_transport(error)) from error


class _Refusals:
    """Replies that were not 2xx, by the request they answer."""

    def __init__(self) -> None:
        self._by_request: dict[str, CallFailedError] = {}

    async def note(self, response: httpx2.Response) -> None:
        if response.status_code < 400:
            return
        await response.aread()
        retry_after = response.headers.get("retry-after", "")
        self._by_request[_request_key(response.request)] = CallFailedError(
            f"HTTP {response.status_code}{_said(response)}",
            status=response.status_code,
            retry_after_seconds=float(retry_after) if retry_after.isdigit() else None,
        )

    def pop(self, method: str, arguments: Mapping[str, Any] | None) -> CallFailedError | None:
        return self._by_request.pop(_key(method, arguments), None)

    def last(self) -> CallFailedError | None:
        return next(reversed(self._by_request.values()), None)


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
    return f": {printable(said)}" if isinstance(said, str) else ""


def printable(text: str, limit: int = 300) -> str:
    """Return a server's words on one line, without control characters, cut to `limit`."""
    line = "".join(character if character.isprintable() else " " for character in text).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def describe_transport(error: Exception) -> str:
    """Return one line for a connection that failed."""
    words: dict[type[Exception], str] = {
        httpx2.ConnectTimeout: "no connection in time",
        httpx2.ReadTimeout: "no reply in time",
        httpx2.ConnectError: "connection refused or impossible",
        httpx2.RemoteProtocolError: "the connection broke",
        httpx2.ReadError: "the connection broke",
    }
    said = printable(str(error))
    word = words.get(type(error), type(error).__name__)
    return f"{word}: {said}" if said else word


class _Bearer(httpx2.Auth):
    """Put the credential's token of the moment on each request, and renew it once when it is refused."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        token = await self._credential.token()
        if token is None:
            yield request
            return
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401 and await self._credential.renew(token):
            request.headers["Authorization"] = f"Bearer {await self._credential.token()}"
            yield request


@asynccontextmanager
async def open_session(
    url: str,
    credential: Credential,
    *,
    headers: Mapping[str, str],
    timeout_seconds: float,
    protocol: str,
) -> AsyncIterator[Session]:
    """Open a session and close it with the context.

    `protocol` is `auto` or a revision. No redirect leaves the origin, so the token does not either.

    Raises:
        SettingsError: the URL is not one we send a token to.
        AccessError, ThrottledError, SourceUnavailableError, ProtocolError: the server does not open one.
    """
    _check_url(url)
    refusals = _Refusals()
    mode = "legacy" if protocol < "2026" else protocol
    async with httpx2.AsyncClient(
        auth=_Bearer(credential),
        headers=dict(headers),
        timeout=httpx2.Timeout(timeout_seconds, connect=min(timeout_seconds, 15.0)),
        event_hooks={"response": [refusals.note]},
    ) as http:
        # A page in one server-sent event may exceed the SDK's cap of 1 MiB; the page size bounds it already.
        transport = streamable_http_client(url, http_client=http, max_sse_event_size=None)
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(
                    Client(transport, mode=mode, read_timeout_seconds=timeout_seconds)
                )
            except BaseException as error:
                raise _opening_error(error, refusals, url) from error
            yield Session(client, refusals)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    if parts.scheme == "http":
        raise SettingsError(f"the token would travel in clear text to '{url}'; use https")
    raise SettingsError(f"'{url}' is not the URL of a server; it should look like https://host/mcp")


def _opening_error(error: BaseException, refusals: _Refusals, url: str) -> BaseException:
    """Return what to raise instead of the nested groups that leave the SDK's context."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, httpx2.TransportError | ssl.SSLError):
            return CallFailedError(describe_transport(leaf)).as_error(url)
        if not isinstance(leaf, Exception):
            return leaf
    refusal = refusals.last()
    if refusal is not None:
        return refusal.as_error(url)
    for leaf in leaves:
        if isinstance(leaf, MCPError):
            timed_out = leaf.error.code == REQUEST_TIMEOUT
            status = None if timed_out else 400
            return CallFailedError(printable(leaf.error.message), status=status).as_error(url)
    return leaves[0]


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
