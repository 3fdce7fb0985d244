"""Question -> pages: paced, retried, sized, and with every failure understood."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import anyio

from cfaudit_export.core.escape import shown
from cfaudit_export.core.model import from_ms, iso
from cfaudit_export.errors import (
    ProtocolError,
    SourceUnavailableError,
)
from cfaudit_export.plugin.records import Credential
from cfaudit_export.sources.codemode.calls import PageCalls
from cfaudit_export.sources.codemode.columns import time_ms
from cfaudit_export.sources.codemode.decode import WHOLE_SCHEMA, decode_page
from cfaudit_export.sources.codemode.fault import CodemodeFault, fault_error, reply_fault
from cfaudit_export.sources.codemode.frame import CutError, Frame, Left
from cfaudit_export.sources.codemode.size import Size
from cfaudit_export.sources.codemode.snippet import Parameters
from cfaudit_export.sources.mcp.budget import WINDOW_SECONDS, CallBudget
from cfaudit_export.sources.mcp.failures import CallFailedError
from cfaudit_export.sources.mcp.retry import RetryPolicy
from cfaudit_export.sources.paging.habits import Habits
from cfaudit_export.sources.paging.moments import UNKNOWN_AFTER, UNKNOWN_BEFORE
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Padding, Query, Rejection, Unreadable
from cfaudit_export.sources.paging.reader import CursorDeadError
from cfaudit_export.sources.paging.rows import last_ms
from cfaudit_export.sources.paging.work_queue import Range

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CodemodeEndpoint:
    """What is called, and how.

    Attributes:
        url: the server, for messages.
        account: whose log is read; None for the one that the server chooses.
        retry_seconds: longest time spent on one call that fails on the server's side.
        concurrency: calls in flight at once.
    """

    url: str
    account: str | None
    retry_seconds: float
    concurrency: int


class CodemodeReader:
    """Read pages, several per call. Many workers use one reader at once."""

    def __init__(
        self,
        calls: PageCalls,
        target: CodemodeEndpoint,
        budget: CallBudget,
        credential: Credential,
        size: Size,
    ) -> None:
        self._calls = calls
        self._target = target
        self._budget = budget
        self._credential = credential
        self._size = size
        self._places = anyio.CapacityLimiter(target.concurrency)
        self.habits = Habits()

    async def account(self) -> str:
        """Ask which account the server chooses for this credential, without reading anything.

        Raises:
            AccountChoiceError: there are several, or none; it names some of them.
            AccessError, ThrottledError, SourceUnavailableError, ProtocolError: there is no answer.
        """
        frame = await self.read(Parameters(self._target.account))
        if frame.header.account is None:
            raise ProtocolError("the server does not say which account it reads; name one with --account")
        return frame.header.account

    async def read(self, parameters: Parameters) -> Frame:
        """Ask one thing until there is an answer. Raises what `pages` raises."""
        frame, _ = await self._persist(lambda: parameters)
        return frame

    async def pages(self, query: Query, most_pages: int) -> list[Page]:
        """Read one page or more, at most so many.

        Raises:
            CursorDeadError: ask again from the start of the window.
            AccessError, ThrottledError, SourceUnavailableError, ProtocolError, SettingsError: there is no page.
        """
        is_single = False

        def parameters() -> Parameters:
            rows, pages = min(self._size.rows, query.limit), min(self._size.pages, most_pages)
            most = self._size.most if is_single else self._size.most_of(rows)
            return Parameters(self._target.account, _asked(query, rows), query.cursor, pages, most)

        frame, asked = await self._persist(parameters)
        if frame.header.left is not None and asked.most < self._size.most:
            is_single = True  # all that the page has is one row, which may be that large
            frame, asked = await self._persist(parameters)
        if (left := frame.header.left) is not None:
            return [_without(left, asked.most)]
        if not frame.bodies:
            raise ProtocolError("the server's reply has no page and no reason why; please report this")
        cursors = [cursor for _, cursor in frame.header.pages]
        rows = _rows(asked)
        pages = [replace(page, asked=rows) for page in map(decode_page, frame.bodies, cursors)]
        self._size.grow(asked.pages, sum(page.rows.num_rows for page in pages), frame.header.bytes)
        return pages

    async def page(self, query: Query) -> Page:
        """Read one page. Raises what `pages` raises."""
        [page] = await self.pages(query, 1)
        return page

    async def _persist(self, parameters: Callable[[], Parameters]) -> tuple[Frame, Parameters]:
        """Ask until there is an answer, and again what `parameters` says each time."""
        retry = RetryPolicy(self._budget, self._target.retry_seconds, self._target.url)
        while True:
            asked = parameters()
            outcome = await self._ask(asked)
            match outcome:
                case Frame():
                    return outcome, asked
                case CallFailedError():
                    await retry.outlast(outcome)
                case CodemodeFault():
                    await self._mend(outcome, asked, retry)

    async def _mend(self, fault: CodemodeFault, asked: Parameters, retry: RetryPolicy) -> None:
        """Do what a fault needs before asking again, or raise that nothing helps."""
        match fault.kind:
            case "throttled":
                self._budget.pause(WINDOW_SECONDS if fault.wait_seconds is None else fault.wait_seconds)
            case "passing":
                failed = SourceUnavailableError(f"Cloudflare's API fails ('{fault.message}'); try again later")
                await retry.again_after(fault.message, failed)
            case "cut":
                pass  # less is asked for already
            case "size" if self._size.shrink(asked.pages, _rows(asked), fault.bytes):
                _LOG.info("asking for less", extra={"rows": self._size.rows, "pages": self._size.pages})
            case "credential" if not retry.renewed and await self._renew():
                retry.renewed = True
            case "refused" if asked.cursor is not None:
                raise CursorDeadError
            case _:
                raise fault_error(fault, self._target.account)

    async def _ask(self, asked: Parameters) -> Frame | CodemodeFault | CallFailedError:
        async with self._places:
            # Here, right before it is sent: what is drawn of a shared budget is good for some seconds only.
            sent_at = await self._budget.acquire(asked.pages)
            try:
                frame = await self._calls.ask(asked)
            except CallFailedError as failure:
                failure.sent_at = sent_at
                if failure.status is None:  # a reply that never comes may be one that is too large
                    self._size.shrink(asked.pages, _rows(asked))
                return failure
            except CutError as error:
                return self._cut(error, asked)
        if isinstance(frame, CodemodeFault):
            if frame.kind == "passing":
                self._size.shrink(asked.pages, _rows(asked))
            return frame
        trouble = reply_fault(frame.header)
        self._budget.served(len(frame.bodies))
        if trouble is None or frame.header.left is not None:
            return frame
        if not frame.bodies:
            return trouble
        # What was read counts. The trouble is met again by the next call, unless it has passed.
        _LOG.info("a call ended early", extra={"pages": len(frame.bodies), "reason": trouble.message})
        if trouble.kind == "throttled":
            self._budget.pause(WINDOW_SECONDS if trouble.wait_seconds is None else trouble.wait_seconds)
        return frame

    def _cut(self, error: CutError, asked: Parameters) -> CodemodeFault:
        """Ask for as little as arrives whole from now on; what is larger, a single event, the server leaves out."""
        if self._size.most >= asked.most:
            facts = {"server": self._target.url, "kept_bytes": error.kept}
            _LOG.warning("the server cuts long replies off; reading smaller pages, which takes more calls", extra=facts)
        if not self._size.cut(error.kept, asked.most):
            return CodemodeFault(
                "foreign", f"{error}, although it was asked not to; '?truncateToolResult=false' is ignored"
            )
        return CodemodeFault("cut", str(error))

    async def _renew(self) -> bool:
        token = await self._credential.token()
        return token is not None and await self._credential.renew(token)


class PagePrefetch:
    """One walk's view of a reader: gives page by page, and reads several at once where the walk will want them.

    As much as one worker's share of what is left, so that a part handed over to others is not read by two.
    """

    def __init__(self, reader: CodemodeReader, mine: Range, workers: int) -> None:
        self.padding = Padding()
        self.exclusive = Padding()
        self.empty = WHOLE_SCHEMA.empty_table()
        self._reader = reader
        self._range = mine
        self._workers = workers
        self._ready: dict[Query, Page] = {}
        self._pages = 0
        self._reached = 0

    @property
    def habits(self) -> Habits:
        """What the server has shown of itself."""
        return self._reader.habits

    async def page(self, query: Query) -> Page | Rejection:
        """Return the page that answers a question; it is never refused.

        Raises what `CodemodeReader.pages` raises.
        """
        if query.cursor is None:
            self._pages, self._reached = 0, query.since_ms
        page = self._ready.pop(query, None)
        if page is None:
            page, *more = await self._reader.pages(query, self._worth(query))
            befores = [page.cursor, *(one.cursor for one in more)]
            self._ready = {query.at(cursor): one for cursor, one in zip(befores, more, strict=False)}
        self._pages += 1
        if page.rows.num_rows:
            self._reached = max(last_ms(page.rows), self._reached)
        return page

    def _worth(self, query: Query) -> int:
        walked = self._reached - query.since_ms
        if query.cursor is None or walked <= 0:
            return 1
        left = self._pages * (self._range.before_ms - self._reached) / walked
        return max(int(left / self._workers), 1)


def _asked(query: Query, rows: int) -> tuple[tuple[str, str], ...]:
    """Return the parameters of the audit endpoint."""
    since = iso(from_ms(query.since_ms - query.padding.since_ms))
    before = iso(from_ms(query.before_ms + query.padding.before_ms))
    fixed = (("since", since), ("before", before), ("direction", query.direction), ("limit", str(rows)))
    return (*fixed, *query.filters)


def _without(left: Left, most_bytes: int) -> Page:
    """Return the page of a single record that is too large for a reply."""
    at_ms = time_ms(left.time, left.id)
    reason = f"record '{shown(left.id or '')}': larger than the {most_bytes:,} bytes that a reply may have"
    ends = (UNKNOWN_BEFORE, UNKNOWN_AFTER) if at_ms is None else (at_ms, at_ms + 1)
    return Page(WHOLE_SCHEMA.empty_table(), left.cursor, unreadable=(Unreadable(*ends, 1, reason),))


def _rows(asked: Parameters) -> int:
    return int(dict(asked.query).get("limit", 0))
