"""The source `auditlogs`: windows in, pieces out. The one place where its async inside meets the sync outside."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectSendStream

from cfaudit_export.core.intervals import subtract
from cfaudit_export.core.model import UNNAMED_ACCOUNT, Connection, Gap, Window, from_ms, to_ms
from cfaudit_export.plugin.interfaces import Extract
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.accounts import AccountFinder
from cfaudit_export.sources.auditlogs.capabilities import read_capabilities
from cfaudit_export.sources.auditlogs.completing import newest_part
from cfaudit_export.sources.auditlogs.contract import TOOL
from cfaudit_export.sources.auditlogs.cost import generation, learn_cost, most_calls
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.auditlogs.extra_fields import extra_columns
from cfaudit_export.sources.auditlogs.prefetch import FilterPrefetch
from cfaudit_export.sources.auditlogs.reader import AuditLogsEndpoint, AuditLogsReader
from cfaudit_export.sources.auditlogs.recover import LEAST_CALLS, Recovered, pages_per_page, recover
from cfaudit_export.sources.mcp.budget import shared_budget
from cfaudit_export.sources.mcp.connect import opened_session
from cfaudit_export.sources.mcp.counters import Tally
from cfaudit_export.sources.mcp.session import Session
from cfaudit_export.sources.mcp.sync_bridge import produced
from cfaudit_export.sources.mcp.tools import choose_tool, fingerprint, properties_of
from cfaudit_export.sources.paging.allowance import Allowance
from cfaudit_export.sources.paging.evidence import Piece
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Query, Rejection, Unreadable
from cfaudit_export.sources.paging.recount import as_extract, read_back
from cfaudit_export.sources.paging.start import newest_time, start_by
from cfaudit_export.sources.paging.walk import Walk, WalkOptions, staggered
from cfaudit_export.sources.paging.work_queue import WORTH_CALLS, Range, WorkQueue

# With columns to rebuild, every walk asks for some 36 values and half of the last page of each is wasted: 18 calls, to
# be little beside the eight for each page. Calls are in flight anyway, as facets are read beside each other.
_RECOVERY_WORTH_CALLS = 60

_NO_COLUMNS = Recover("off")
# Shares of the budget that columns leave: for the pages of what is not read yet, or for what is read again at the end
# of a run, and for gaps.
_KEPT, _KEPT_AT_END = 0.5, 0.1
# A piece this small has all its columns for what is to spare of the budget of a user's token.
_COMPLETED_ROWS = 2_000
_COMPLETED_GAPS = 6
# Calls that the columns around a gap cost, as a rule.
_GAP_CALLS = 36
_Read = tuple[Piece, Recovered]


@dataclass(frozen=True, slots=True)
class _Open:
    """What `connect` leaves open."""

    portal: BlockingPortal
    reader: AuditLogsReader
    page_size: int


class AuditLogsSource:
    """Cloudflare's Audit Logs MCP server, or any that follows its contract."""

    def __init__(self, config: AuditLogsConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context
        self._session = f"auditlogs {config.server_url}"
        self._open: _Open | None = None
        self._budget = shared_budget(context, config.budget_calls)
        self._tally = Tally(context, self._budget)

    def connect(self) -> Connection:
        """Open the session, find the tool and the account."""
        portal, session = self.open()
        connection, reader = portal.call(self._find, session)
        self._open = _Open(portal, reader, min(self._config.page_size, reader.capabilities.most_rows))
        reader.capabilities.check(self._context.stream.filters)
        return connection

    def open(self) -> tuple[BlockingPortal, Session]:
        """Open the session only, or return the one that is open."""
        # To open a session takes two requests, and the server looks up at each who is asking.
        config, cost = self._config, 2 * (most_calls(self._context.credential) - 1)
        return opened_session(self._session, config, self._context, self._budget, url=config.server_url, cost=cost)

    def probe(self) -> None:
        """Read at most one event, of the last hour."""
        opened = self._opened()
        now_ms = to_ms(self._context.clock())
        opened.portal.call(opened.reader.page, Query(now_ms - 3_600_000, now_ms, 1))

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        """Walk the windows with `concurrency` workers; a piece is an `Extract`."""
        return self._walked(windows, self._context.recover)

    def reread(
        self, windows: Iterable[Window], known: Iterable[Window], *, columns: bool
    ) -> Generator[Extract, None, None]:
        """Walk them around what is known to be unreadable, and ask for columns only where they are wanted."""
        gaps = tuple((to_ms(window.since), to_ms(window.before)) for window in known)
        return self._walked(windows, self._context.recover if columns else _NO_COLUMNS, gaps)

    def complete(self, windows: Iterable[Window], known: Iterable[Window]) -> Generator[Extract, None, None]:
        """Walk the windows in small pieces, as long as there are calls for all columns of a piece."""
        if self._context.recover.mode == "off":
            return
        rejected = tuple(known)
        gaps = tuple((to_ms(window.since), to_ms(window.before)) for window in rejected)
        left = list(windows)[::-1]
        while left and (part := newest_part(left[-1], rejected, self._affordable_gaps())):
            whole = left.pop()
            left += subtract([whole], [part])
            walked = self._walked([part], self._context.recover, gaps, _COMPLETED_ROWS, _KEPT_AT_END)
            with closing(walked) as pieces:
                for extract in pieces:
                    if extract.trimmed:
                        return
                    yield extract

    def _affordable_gaps(self) -> int:
        """Return how many gaps a piece may have whose columns are rebuilt now; -1 where there are too few calls."""
        spare = self._budget.spare(_KEPT_AT_END)
        if spare is None:
            return _COMPLETED_GAPS
        return min((spare // self._opened().reader.cost - LEAST_CALLS) // _GAP_CALLS, _COMPLETED_GAPS)

    def _walked(
        self,
        windows: Iterable[Window],
        policy: Recover,
        known: tuple[tuple[int, int], ...] = (),
        piece_rows: int | None = None,
        kept: float = _KEPT,
    ) -> Generator[Extract, None, None]:
        wanted = tuple(windows)
        ranges = [Range(to_ms(window.since), to_ms(window.before)) for window in wanted]
        if not ranges:
            return
        self._budget.plan(wanted)
        opened, workers = self._opened(), self._config.concurrency
        queue = WorkQueue(ranges, workers, WORTH_CALLS if policy.mode == "off" else _RECOVERY_WORTH_CALLS)
        rows = min(piece_rows or self._config.piece_rows, self._config.piece_rows)
        # Another source that reads a gap is asked for all of it, from row to row, for the price of a call.
        allowance = Allowance(sharpening=0) if self._context.has_filler() else Allowance()
        options = WalkOptions(opened.page_size, rows, self._context.stream.filters, known=known, allowance=allowance)
        first_options = iter(staggered(options, workers))

        async def work(send: MemoryObjectSendStream[_Read]) -> None:
            first = next(first_options)
            while (mine := await queue.next()) is not None:
                ahead = FilterPrefetch(mine)
                async for piece in Walk(opened.reader, queue, mine, first).pieces():
                    is_end = piece.before_ms >= mine.before_ms and queue.is_last
                    share = _KEPT_AT_END if is_end else kept
                    await send.send((piece, await self._recovered(opened.reader, piece, ahead, policy, share)))
                await queue.done()
                first = options

        with closing(produced(opened.portal, workers, work, waiting=max(workers // 4, 1))) as pieces:
            for piece, recovered in pieces:
                self._tally.tell(piece.rows.num_rows)
                yield self._as_extract(piece, recovered, policy)

    def guess_start(self, window: Window, count: int) -> datetime:
        """Return since when the newest events of a window are: exactly, or by the density before a rejected row."""
        opened = self._opened()
        limit = min(count, opened.page_size)
        filters = self._context.stream.filters
        query = Query(to_ms(window.since), to_ms(window.before), limit, "desc", filters=filters)
        outcome = opened.portal.call(opened.reader.page, query)
        if isinstance(outcome, Rejection):  # what stands before the rejected row may be had
            outcome = opened.portal.call(opened.reader.page, replace(query, limit=max(outcome.issues[0].index, 1)))
        page = Page(PAGE_SCHEMA.empty_table(), "more") if isinstance(outcome, Rejection) else outcome
        return start_by(page, window, count)

    def newest_time(self, window: Window) -> datetime | None:
        """Date the newest event of a window, whatever refuses to be read."""
        opened, filters = self._opened(), self._context.stream.filters
        whole = Query(to_ms(window.since), to_ms(window.before), 1, filters=filters)
        return opened.portal.call(newest_time, opened.reader.page, whole)

    def recount(self, window: Window, page_rows: int, filters: Iterable[tuple[str, str]] = ()) -> Extract:
        """Read a window another way than `extract` does, with pages of so many rows, and further filters."""
        opened = self._opened()
        conditions = (*self._context.stream.filters, *filters)
        whole = Query(to_ms(window.since), to_ms(window.before), page_rows, filters=conditions)
        found = opened.portal.call(read_back, opened.reader.page, whole, PAGE_SCHEMA)
        return as_extract(window, found, self._context.clock())

    def close(self) -> None:
        """Close the session and its thread, unless they are kept for other accounts."""
        self._tally.tell()
        self._open = None
        self._context.shared.release(self._session)

    def _opened(self) -> _Open:
        if self._open is None:
            raise RuntimeError("connect comes first")
        return self._open

    async def _recovered(
        self, reader: AuditLogsReader, piece: Piece, ahead: FilterPrefetch, policy: Recover, kept: float
    ) -> Recovered:
        return await recover(
            reader,
            self._budget,
            piece,
            ahead,
            policy=policy,
            page_size=self._opened().page_size,
            filters=self._context.stream.filters,
            kept=kept,
        )

    def _as_extract(self, piece: Piece, recovered: Recovered, policy: Recover) -> Extract:
        now = self._context.clock()
        gaps = tuple(
            Gap(Window(from_ms(row.since_ms), from_ms(row.before_ms)), row.rows + row.hidden, _why(row), now, now)
            for row in piece.unreadable
        )
        # In one stretch: whatever is done with the rows later would be done page by page.
        events = piece.rows.combine_chunks()
        further = extra_columns(events, self._opened().reader.further)
        for name, column in {**recovered.columns, **further}.items():
            events = events.append_column(name, column)
        fidelity = "recovered" if recovered.complete else "trimmed"
        return Extract(
            Window(from_ms(piece.since_ms), from_ms(piece.before_ms)),
            events.append_column("fidelity", pa.repeat(pa.scalar(fidelity), events.num_rows)),
            gaps,
            now,
            piece.calls + recovered.calls,
            0 if recovered.complete or policy.mode == "off" else events.num_rows,
            recovered.shadows,
        )

    async def _find(self, session: Session) -> tuple[Connection, AuditLogsReader]:
        tool = choose_tool(session.tools, self._config.tool, TOOL, "sources.auditlogs.tool")
        capabilities = read_capabilities(tool.input_schema)
        kind = self._context.credential.kind
        takes_account = "account_id" in properties_of(tool.input_schema)
        finder = AccountFinder(self._config, self._context, self._budget)
        account, known = await finder.find(session, tool.name, takes_account=takes_account)
        session.choose_account(account if takes_account and account in dict(known) else None)
        await learn_cost(self._config, self._context, self._budget)
        target = AuditLogsEndpoint(
            self._config.server_url,
            tool.name,
            {"account_id": account} if takes_account else {},
            most_calls(self._context.credential),
            self._config.retry_seconds,
            self._config.concurrency,
            capabilities,
            self._names_blocks,
        )
        connection = Connection(
            account_id=self._context.stream.account_found(account),
            account_verified=account in dict(known) or self._context.stream.account_found(account) == UNNAMED_ACCOUNT,
            account_name=dict(known).get(account),
            credential=kind,
            calls_per_page=self._budget.counted(target.cost),
            filters=frozenset(capabilities.filters),
            server=session.server,
            protocol=session.protocol,
            tool=fingerprint(tool),
            accounts=known,
            clock_ahead_seconds=session.clock.ahead_seconds,
            recovery_per_page=pages_per_page(capabilities, self._config.page_size, self._config.piece_rows),
        )
        return connection, AuditLogsReader(session, target, self._budget, self._context.credential)

    async def _names_blocks(self) -> bool:
        # A sign-in is not looked up again, and a token each time by the first generation only.
        if self._context.credential.kind == "oauth":
            return False
        return await generation(self._config, self._context) == "first"


def _why(row: Unreadable) -> str:
    return f"{row.reason}; {row.hidden} readable rows could not be separated from it" if row.hidden else row.reason
