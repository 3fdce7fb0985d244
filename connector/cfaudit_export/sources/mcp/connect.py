"""The session of a source: opened once for all accounts of a process, in a thread where its async lives."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import Literal, Protocol

from anyio.from_thread import BlockingPortal, start_blocking_portal

from cfaudit_export.auth import header_values
from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_export.sources.mcp.clock_skew import ServerClock
from cfaudit_export.sources.mcp.retry import RetryPolicy
from cfaudit_export.sources.mcp.session import Session, open_session


class Server(Protocol):
    """What is asked of a source's settings: how its server is reached."""

    @property
    def server_url(self) -> str:
        """The MCP endpoint."""

    @property
    def headers(self) -> dict[str, str]:
        """Further request headers, name to the variable that holds the value."""

    @property
    def insecure_http(self) -> bool:
        """Whether credentials may travel over plain http."""

    @property
    def protocol(self) -> Literal["auto", "2026-07-28", "2025-11-25"]:
        """The protocol revision."""

    @property
    def timeout_seconds(self) -> float:
        """Longest time for one request."""

    @property
    def max_reply_bytes(self) -> int:
        """Largest reply that is read."""

    @property
    def retry_seconds(self) -> float:
        """Longest time spent on retrying."""


def opened_session(
    name: str, server: Server, context: SourceContext, budget: CallBudget, *, url: str, cost: int
) -> tuple[BlockingPortal, Session]:
    """Return the session that is open under a name, and the portal to the thread of it; open it where it is not.

    A server that is away is waited for, for `retry_seconds` in all: where it never came for one account, the next
    one does not wait as long again.

    Args:
        name: what `context.shared` knows it by; the caller releases it.
        server: how it is reached.
        context: who asks.
        budget: the budget.
        url: what is asked, which may have more to it than the URL of the settings.
        cost: upstream calls that opening costs.

    Raises:
        SettingsError: the URL is not one we send a token to.
        AccessError, ThrottledError, SourceUnavailableError, ProtocolError: the server does not open one.
    """
    waiting = f"retry policy for {name}"
    retry = context.shared.own.setdefault(waiting, RetryPolicy(budget, server.retry_seconds, server.server_url))

    def enter(stack: ExitStack) -> tuple[BlockingPortal, Session]:
        portal = stack.enter_context(start_blocking_portal())
        stack.enter_context(context.shared.stop.ending(lambda: cancel_all(portal)))
        opening = open_session(
            url,
            context.credential,
            headers=header_values(server.headers, os.environ),
            timeout_seconds=server.timeout_seconds,
            most_bytes=server.max_reply_bytes,
            protocol=server.protocol,
            clock=ServerClock(context.clock),
            insecure_http=server.insecure_http,
            persist=lambda ask: retry.persist(cost, ask),
        )
        return portal, stack.enter_context(portal.wrap_async_context_manager(opening))

    opened = context.shared.opened(name, enter)
    context.shared.own.pop(waiting)
    return opened


def cancel_all(portal: BlockingPortal) -> None:
    """Cancel whatever a portal does; who waits for it in another thread is told at once."""
    with suppress(RuntimeError):  # it has ended already
        portal.start_task_soon(portal.stop, True)  # noqa: FBT003  # the signature is that of the library
