"""The source `rest`: how Cloudflare's API is reached; what is read there is read as `codemode` reads it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal

from cfaudit_export.auth import header_values
from cfaudit_export.core.filters import CODEMODE_FILTERS
from cfaudit_export.core.model import Connection
from cfaudit_export.errors import AccessError, AccountChoiceError
from cfaudit_export.http.exchange import AsyncBoundedTransport
from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.sources.codemode.accounts import PER_PAGE, Accounts, all_accounts
from cfaudit_export.sources.codemode.reader import CodemodeEndpoint, CodemodeReader
from cfaudit_export.sources.codemode.size import Size
from cfaudit_export.sources.codemode.snippet import Parameters
from cfaudit_export.sources.codemode.source import RecordSource, require_account_id
from cfaudit_export.sources.mcp.bearer import Bearer
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_export.sources.mcp.clock_skew import ServerClock
from cfaudit_export.sources.mcp.connect import cancel_all
from cfaudit_export.sources.mcp.session import check_url
from cfaudit_export.sources.rest import RestConfig
from cfaudit_export.sources.rest.calls import RestCalls

_LARGEST = 48_000_000

Client = tuple[BlockingPortal, RestCalls, ServerClock]


def rest_source(config: RestConfig, context: SourceContext) -> RecordSource:
    """Return the source. Nothing is asked yet."""
    return RecordSource(config, context, RestDoor(config, context))


class RestDoor:
    """Reaches Cloudflare's API for one account. Fits `cfaudit_export.sources.codemode.source.Door`."""

    def __init__(self, config: RestConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context
        self._name = f"rest {config.server_url}"

    def open(self, budget: CallBudget) -> tuple[BlockingPortal, CodemodeReader, Connection]:
        """Find the account, and prove once in a process that the credential is accepted.

        Raises what `Source.connect` raises.
        """
        require_account_id(self._context.stream.asked_account)
        if self._context.credential.kind == "oauth":
            raise AccessError("a sign-in is for MCP servers; the source 'rest' needs an API token")
        check_url(self._config.server_url, insecure_http=self._config.insecure_http)
        portal, calls, clock = self._context.shared.opened(self._name, self._enter)
        reader, connection = portal.call(self._find, calls, clock, budget)
        return portal, reader, connection

    def close(self) -> None:
        """Close the connections, unless they are kept for other accounts."""
        self._context.shared.release(self._name)

    def _enter(self, stack: ExitStack) -> Client:
        config = self._config
        portal = stack.enter_context(start_blocking_portal())
        stack.enter_context(self._context.shared.stop.ending(lambda: cancel_all(portal)))
        bearer, clock = Bearer(self._context.credential), ServerClock(self._context.clock)
        http = httpx2.AsyncClient(
            transport=AsyncBoundedTransport(config.timeout_seconds, most_bytes=config.max_reply_bytes),
            auth=bearer,
            headers=header_values(config.headers, os.environ),
            timeout=config.timeout_seconds,
            event_hooks={"response": [clock.note]},
        )
        stack.enter_context(portal.wrap_async_context_manager(http))
        return portal, RestCalls(config.server_url, http, bearer, clock), clock

    async def _find(
        self, calls: RestCalls, clock: ServerClock, budget: CallBudget
    ) -> tuple[CodemodeReader, Connection]:
        config, context = self._config, self._context
        target = CodemodeEndpoint(config.server_url, None, config.retry_seconds, config.concurrency)
        size = Size(config.page_size, 1)
        size.most = min(config.max_reply_bytes, _LARGEST)
        asked, known = context.stream.asked_account, Accounts()
        lister = CodemodeReader(calls, target, budget, context.credential, size)
        if not asked:
            known = await all_accounts(lister.read, ())
            if len(known) > 1:
                raise AccountChoiceError(known)
        account = asked or known[0][0]
        reader = CodemodeReader(calls, replace(target, account=account), budget, context.credential, size)
        proved = f"credential of {self._name}"
        if asked and proved not in context.shared.values:
            first = (("page", "1"), ("per_page", str(PER_PAGE)))
            await reader.read(Parameters(account, first, pages=1, most=size.most, listing=True))
        context.shared.values[proved] = True
        connection = Connection(
            account_id=context.stream.account_found(account),
            account_name=dict(known).get(account),
            credential=context.credential.kind,
            calls_per_page=1,
            filters=frozenset(CODEMODE_FILTERS),
            server=httpx2.URL(config.server_url).host,
            protocol="rest",
            tool="GET /accounts/{account_id}/logs/audit",
            accounts=known,
            clock_ahead_seconds=clock.ahead_seconds,
        )
        return reader, connection
