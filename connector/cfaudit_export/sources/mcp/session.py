"""One MCP session over Streamable HTTP: tool calls in, texts out, and every failure with its HTTP status."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from anyio.abc import TaskGroup, TaskStatus
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent, Tool

from cfaudit_export.core.escape import shown
from cfaudit_export.core.urls import check_secret_url
from cfaudit_export.errors import ProtocolError
from cfaudit_export.http.exchange import AsyncBoundedTransport
from cfaudit_export.plugin.records import Credential
from cfaudit_export.sources.mcp.bearer import Bearer
from cfaudit_export.sources.mcp.clock_skew import ServerClock
from cfaudit_export.sources.mcp.failures import CallFailedError, failure_of, says_session_ended
from cfaudit_export.sources.mcp.http_errors import FailedResponses

_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS = 15.0
_COPIES_OF_EVENT = 3
_DISCOVER_HINT = "; if the server does not know 'server/discover', set protocol = '2025-11-25' for the source"
_SDK_LOGGER = "mcp.client.streamable_http"
_ACCOUNT_HEADER = "cf-account-id"


@dataclass(frozen=True, slots=True)
class ToolReply:
    """What a tool said: its text, and whether it calls that an error."""

    text: str
    is_error: bool


@dataclass(slots=True, eq=False)
class _Link:
    """One session at the server; a task of its own holds it open, as the SDK closes only where it opened."""

    client: Client
    tools: list[Tool]
    held: anyio.CancelScope
    leave: anyio.Event = field(default_factory=anyio.Event)
    calls: int = 0
    is_broken: bool = False


class Session:
    """A session. Calls may be in flight at the same time; when the server ended it, another one takes its place."""

    def __init__(
        self,
        url: str,
        http: httpx2.AsyncClient,
        bearer: Bearer,
        refusals: FailedResponses,
        tasks: TaskGroup,
        *,
        clock: ServerClock,
    ) -> None:
        self.clock = clock
        self._url = url
        self._http = http
        self._bearer = bearer
        self._refusals = refusals
        self._tasks = tasks
        self._turn = anyio.Lock()
        self._mode = "auto"
        self._link: _Link | None = None

    async def open(self, mode: str) -> None:
        """Agree with the server on a protocol, and learn its tools.

        Raises:
            CallFailedError: the server did not answer so.
            CfauditError: from the credential.
        """
        self._mode = mode
        self._link = await self._opened(mode)

    def close(self) -> None:
        """Begin to end the session; the task that holds it says goodbye."""
        if self._link is not None:
            self._link.leave.set()

    @property
    def protocol(self) -> str:
        """The protocol revision agreed on."""
        return self._held.client.protocol_version

    @property
    def server(self) -> str:
        """Name and version of the server."""
        info = self._held.client.server_info
        return shown(f"{info.name} {info.version}") if info else "unnamed"

    def choose_account(self, account: str | None) -> None:
        """Name the account in a header of every call from now on, or none; gateways may drop it."""
        self._http.headers.pop(_ACCOUNT_HEADER, None)
        if account is not None:
            self._http.headers[_ACCOUNT_HEADER] = account

    @property
    def tools(self) -> list[Tool]:
        """Every tool of the server."""
        return self._held.tools

    @property
    def _held(self) -> _Link:
        if self._link is None:
            raise RuntimeError("open comes first")
        return self._link

    async def call(self, tool: str, arguments: Mapping[str, Any], *, most_bytes: int | None = None) -> ToolReply:
        """Call a tool, once; once more when the server turned out to have ended the session.

        Args:
            tool: its name.
            arguments: what it is called with.
            most_bytes: of the reply, where it may be less than other replies; calls in flight that are equal share it.

        Raises:
            CallFailedError: there is no reply of the tool.
            CfauditError: from the credential.
        """
        link = self._held
        self._refusals.limit_call(arguments, most_bytes)
        try:
            return await self._asked(link, tool, arguments)
        except CallFailedError as failure:
            if not (failure.ended_session or link.is_broken):
                raise
            _LOG.info("the server ended the session, opening another", extra={"reason": failure.detail})
        finally:
            self._refusals.limit_call(arguments, None)
        await self._replace(link)
        return await self._asked(self._held, tool, arguments)

    async def _asked(self, link: _Link, tool: str, arguments: Mapping[str, Any]) -> ToolReply:
        link.calls += 1
        try:
            result = await link.client.call_tool(tool, dict(arguments))
        except Exception as error:  # whatever it is, the table of failures knows it
            noted = self._refusals.of_call(arguments)
            raise self._bearer.problem or noted or failure_of(error) from error
        finally:
            link.calls -= 1
            self._drop_unused(link)
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        if len(texts) != 1:
            raise CallFailedError(f"the tool answered with {len(texts)} texts instead of one", "shape")
        if result.is_error and says_session_ended(texts[0]):
            raise CallFailedError(shown(texts[0]), "odd", ended_session=True)
        return ToolReply(texts[0], bool(result.is_error))

    async def _replace(self, ended: _Link) -> None:
        """Open another session in the place of one that the server ended, once for all calls that found it so."""
        async with self._turn:
            if self._link is ended:
                has_sessions = ended.client.protocol_version < "2026"  # newer revisions know none
                self._link = await self._opened("legacy" if has_sessions else self._mode)
                self._drop_unused(ended)

    def _drop_unused(self, link: _Link) -> None:
        if link is not self._link and not link.calls:
            link.held.cancel()

    async def _opened(self, mode: str) -> _Link:
        try:
            link: _Link = await self._tasks.start(self._hold, mode)
        except Exception as error:  # as above
            failure = self._bearer.problem or self._refusals.of_opening() or failure_of(error)
            if isinstance(failure, CallFailedError):
                failure.is_early = self._link is None
                failure.hint = _DISCOVER_HINT if self._refusals.discover_is_unheard else ""
            raise failure from error
        self._refusals.of_opening()  # of what was tried first
        return link

    async def _hold(self, mode: str, *, task_status: TaskStatus[_Link]) -> None:
        # An event is a page. The SDK's own cap is 1 MiB, and it holds what has come of an event several times.
        most = self._refusals.most_bytes // _COPIES_OF_EVENT
        transport = streamable_http_client(self._url, http_client=self._http, max_sse_event_size=most)
        link: _Link | None = None
        try:
            with anyio.CancelScope() as held:
                async with Client(transport, mode=mode, read_timeout_seconds=self._http.timeout.read) as client:
                    # Before the first call: else the SDK lists tools after it, at the risk of what it brought.
                    link = _Link(client, await _all_tools(client), held)
                    task_status.started(link)
                    await link.leave.wait()
        except Exception as error:
            if link is None:
                raise
            # Raised here it would end every other task; calls in flight learn of it by the streams that closed.
            _LOG.info("the session broke", extra={"error": shown(repr(error))})
        finally:
            if link is not None:
                link.is_broken = True


async def _all_tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(100):
        listing = await client.list_tools(cursor=cursor)
        tools += listing.tools
        cursor = listing.next_cursor
        if not cursor:
            return tools
    raise ProtocolError("the server's list of tools does not end")


@asynccontextmanager
async def open_session(
    url: str,
    credential: Credential,
    *,
    headers: Mapping[str, str],
    timeout_seconds: float,
    most_bytes: int,
    protocol: str,
    clock: ServerClock,
    insecure_http: bool,
    persist: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
) -> AsyncIterator[Session]:
    """Open a session and close it with the context.

    `timeout_seconds` and `most_bytes` bound every exchange, `protocol` is `auto` or a revision. `persist` opens it, and
    again where that is of use. No redirect leaves the origin, so the token does not either.

    Raises:
        SettingsError: the URL is not one we send a token to, or the machine's proxies or certificates do not work.
        AccessError, ThrottledError, SourceUnavailableError, ProtocolError: the server does not open one.
    """
    check_url(url, insecure_http=insecure_http)
    logging.getLogger(_SDK_LOGGER).addFilter(_is_ours_to_tell)
    bearer = Bearer(credential)
    refusals = FailedResponses(AsyncBoundedTransport(timeout_seconds, most_bytes=most_bytes), clock.ours)
    async with httpx2.AsyncClient(
        transport=refusals,
        auth=bearer,
        headers=dict(headers),
        timeout=httpx2.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)),
        event_hooks={"response": [clock.note]},
    ) as http:
        problem: Exception | None = None
        async with anyio.create_task_group() as tasks:
            session = Session(url, http, bearer, refusals, tasks, clock=clock)
            try:
                await persist(lambda: session.open("legacy" if protocol < "2026" else protocol))
            except Exception as error:  # noqa: BLE001  # raised below, where no task group wraps it
                problem = error
            else:
                try:
                    yield session
                finally:
                    session.close()
        if problem is not None:
            raise problem


def _is_ours_to_tell(record: logging.LogRecord) -> bool:
    """Keep what the SDK says of replies that it cannot read: it quotes events. What failed is told by us."""
    return record.exc_info is None


def check_url(url: str, *, insecure_http: bool) -> None:
    """Refuse a URL to which no secret may be sent.

    Raises:
        SettingsError: it is one.
    """
    check_secret_url(url, "the token", allow="--insecure-http", insecure_http=insecure_http)
