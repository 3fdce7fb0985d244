"""The source `codemode`: windows in, pieces of whole records out."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pyarrow as pa
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectSendStream

from cfaudit_export.core.filters import CODEMODE_FILTERS
from cfaudit_export.core.model import Connection, Gap, Window, from_ms, to_ms
from cfaudit_export.errors import AccountChoiceError, ProtocolError, SettingsError
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.sources.codemode import CodeModeConfig
from cfaudit_export.sources.codemode.accounts import all_accounts
from cfaudit_export.sources.codemode.calls import SnippetCalls
from cfaudit_export.sources.codemode.decode import WHOLE_SCHEMA
from cfaudit_export.sources.codemode.reader import CodemodeEndpoint, CodemodeReader, PagePrefetch
from cfaudit_export.sources.codemode.size import Size
from cfaudit_export.sources.mcp.budget import CallBudget, shared_budget
from cfaudit_export.sources.mcp.connect import opened_session
from cfaudit_export.sources.mcp.counters import Tally
from cfaudit_export.sources.mcp.session import Session
from cfaudit_export.sources.mcp.sync_bridge import produced
from cfaudit_export.sources.mcp.tools import choose_tool, fingerprint, properties_of
from cfaudit_export.sources.paging.evidence import Piece
from cfaudit_export.sources.paging.query import Query, Unreadable
from cfaudit_export.sources.paging.recount import as_extract, read_back
from cfaudit_export.sources.paging.start import newest_time, start_by
from cfaudit_export.sources.paging.walk import Walk, WalkOptions
from cfaudit_export.sources.paging.work_queue import Range, WorkQueue

TOOL = "execute"
_PROBED_MS = 30 * 86_400_000
_PROBED_ROWS = 100  # some 100 kB, where servers that cut replies off leave 24
_ACCOUNT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class _Open:
    """What `connect` leaves open."""

    portal: BlockingPortal
    reader: CodemodeReader


class RecordSettings(Protocol):
    """What is asked of the settings of a source of whole records: how it is read."""

    @property
    def concurrency(self) -> int:
        """Windows read at once."""

    @property
    def page_size(self) -> int:
        """Rows asked for per page."""

    @property
    def piece_rows(self) -> int:
        """Events after which a piece is handed on."""

    @property
    def budget_calls(self) -> int:
        """Upstream calls in five minutes."""


class Door(Protocol):
    """How whole records are reached, for one account."""

    def open(self, budget: CallBudget) -> tuple[BlockingPortal, CodemodeReader, Connection]:
        """Connect. Raises what `Source.connect` raises."""
        ...

    def close(self) -> None:
        """Close what is not kept for other accounts."""
        ...


class RecordSource:
    """Whole records of the audit log, by whichever door they are reached."""

    def __init__(self, config: RecordSettings, context: SourceContext, door: Door) -> None:
        self._config = config
        self._context = context
        self._door = door
        self._open: _Open | None = None
        self._budget = shared_budget(context, config.budget_calls)
        self._tally = Tally(context, self._budget)

    def connect(self) -> Connection:
        """Open the door, and find the account."""
        portal, reader, connection = self._door.open(self._budget)
        self._open = _Open(portal, reader)
        return connection

    def probe(self) -> None:
        """Read a page of the newest events, large enough to notice a server that cuts replies off."""
        opened = self._opened()
        now_ms = to_ms(self._context.clock())
        query = Query(now_ms - _PROBED_MS, now_ms, min(_PROBED_ROWS, self._config.page_size), "desc")
        opened.portal.call(opened.reader.pages, query, 1)

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        """Walk the windows with `concurrency` workers; a piece is an `Extract`."""
        wanted = tuple(windows)
        ranges = [Range(to_ms(window.since), to_ms(window.before)) for window in wanted]
        if not ranges:
            return
        self._budget.plan(wanted)
        opened, workers = self._opened(), self._config.concurrency
        queue = WorkQueue(ranges, workers)
        options = WalkOptions(
            self._config.page_size,
            self._config.piece_rows,
            self._context.stream.filters,
        )

        async def work(send: MemoryObjectSendStream[Piece]) -> None:
            while (mine := await queue.next()) is not None:
                async for piece in Walk(PagePrefetch(opened.reader, mine, workers), queue, mine, options).pieces():
                    await send.send(piece)
                    del piece  # it would be kept until the next one is whole
                await queue.done()

        with closing(produced(opened.portal, workers, work)) as pieces:
            yield from map(self._as_extract, pieces)  # keeps none of them

    def complete(self, windows: Iterable[Window], known: Iterable[Window]) -> Generator[Extract, None, None]:  # noqa: ARG002  # nothing is dear here
        """Read windows that another source trimmed."""
        return self.extract(windows)

    def guess_start(self, window: Window, count: int) -> datetime:
        """Return since when the newest events of a window are, or guess it by how dense those of one page are."""
        opened, filters = self._opened(), self._context.stream.filters
        limit = min(count, self._config.page_size)
        query = Query(to_ms(window.since), to_ms(window.before), limit, "desc", filters=filters)
        return start_by(opened.portal.call(opened.reader.page, query), window, count)

    def newest_time(self, window: Window) -> datetime | None:
        """Date the newest event of a window."""
        opened, filters = self._opened(), self._context.stream.filters
        whole = Query(to_ms(window.since), to_ms(window.before), 1, filters=filters)
        return opened.portal.call(newest_time, opened.reader.page, whole)

    def recount(self, window: Window, page_rows: int, filters: Iterable[tuple[str, str]] = ()) -> Extract:
        """Read a window another way than `extract` does, with pages of so many rows, and further filters."""
        opened = self._opened()
        conditions = (*self._context.stream.filters, *filters)
        whole = Query(to_ms(window.since), to_ms(window.before), page_rows, filters=conditions)
        found = opened.portal.call(read_back, opened.reader.page, whole, WHOLE_SCHEMA)
        return as_extract(window, found, self._context.clock())

    def close(self) -> None:
        """Close the session and its thread, unless they are kept for other accounts."""
        self._tally.tell()
        self._open = None
        self._door.close()

    def _opened(self) -> _Open:
        if self._open is None:
            raise RuntimeError("connect comes first")
        return self._open

    def _as_extract(self, piece: Piece) -> Extract:
        # In one stretch: whatever is done with the rows later would be done page by page.
        events, now = piece.rows.combine_chunks(), self._context.clock()
        self._tally.tell(events.num_rows)
        return Extract(
            Window(from_ms(piece.since_ms), from_ms(piece.before_ms)),
            events.append_column("fidelity", pa.repeat(pa.scalar("full"), events.num_rows)),
            tuple(_gaps(piece.unreadable, now)),
            now,
            piece.calls,
        )


def _gaps(unreadable: Iterable[Unreadable], now: datetime) -> Iterator[Gap]:
    """Yield one gap for each millisecond that holds unreadable rows."""
    for (since_ms, before_ms), rows in groupby(unreadable, lambda row: (row.since_ms, row.before_ms)):
        first, *more = rows
        count = first.rows + sum(row.rows for row in more)
        yield Gap(Window(from_ms(since_ms), from_ms(before_ms)), count, first.reason, now, now)


def untruncated(url: str) -> str:
    """Return the URL with the switch that keeps replies whole; it is read from the URL of every request."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "truncateToolResult"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("truncateToolResult", "false")])))


def require_account_id(asked: str) -> None:
    """Refuse what is asked for and is not the id of an account; nothing may be asked for.

    Raises:
        SettingsError: it is none.
    """
    if asked and not _ACCOUNT.fullmatch(asked):
        raise SettingsError(f"'{asked}' is not the id of an account, which has 32 hex digits")


def codemode_source(config: CodeModeConfig, context: SourceContext) -> RecordSource:
    """Return the source `codemode`: Cloudflare's API MCP server, asked by one fixed snippet."""
    return RecordSource(config, context, McpDoor(config, context))


class McpDoor:
    """Reaches whole records through a code-mode server. Fits `Door`."""

    def __init__(self, config: CodeModeConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context
        self._session = f"codemode {config.server_url}"

    def open(self, budget: CallBudget) -> tuple[BlockingPortal, CodemodeReader, Connection]:
        """Open the session, find the tool and the account."""
        require_account_id(self._context.stream.asked_account)
        url = untruncated(self._config.server_url)
        portal, session = opened_session(self._session, self._config, self._context, budget, url=url, cost=0)
        connection, reader = portal.call(self._find, session, budget)
        return portal, reader, connection

    def close(self) -> None:
        """Close the session and its thread, unless they are kept for other accounts."""
        self._context.shared.release(self._session)

    async def _find(self, session: Session, budget: CallBudget) -> tuple[Connection, CodemodeReader]:
        config, credential = self._config, self._context.credential
        tool = choose_tool(session.tools, config.tool, TOOL, "sources.codemode.tool")
        properties = set(properties_of(tool.input_schema))
        if "code" not in properties:
            raise ProtocolError(f"the tool '{tool.name}' does not take code; it takes: {', '.join(sorted(properties))}")
        asked = self._context.stream.asked_account
        target = CodemodeEndpoint(
            config.server_url,
            asked or None,
            config.retry_seconds,
            config.concurrency,
        )
        size = Size(config.page_size, config.pages_per_call)
        arguments = {"account_id": asked} if asked and "account_id" in properties else {}
        reader = CodemodeReader(SnippetCalls(session, tool.name, arguments), target, budget, credential, size)
        try:
            account = asked or await reader.account()
        except AccountChoiceError as choice:
            # The first generation runs nothing before an account is named, and the list is the same for each.
            named = {"account_id": choice.accounts[0][0]} if choice.accounts and "account_id" in properties else {}
            lister = CodemodeReader(SnippetCalls(session, tool.name, named), target, budget, credential, size)
            raise AccountChoiceError(await all_accounts(lister.read, choice.accounts)) from choice
        connection = Connection(
            account_id=self._context.stream.account_found(account),
            account_name=None,
            credential=credential.kind,
            calls_per_page=1,
            filters=frozenset(CODEMODE_FILTERS),
            server=session.server,
            protocol=session.protocol,
            tool=fingerprint(tool),
            clock_ahead_seconds=session.clock.ahead_seconds,
        )
        return connection, reader
