"""Question -> page: paced, retried, and with the server's one sentence for every failure resolved."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import anyio

from cfaudit_export.core.escape import shown
from cfaudit_export.errors import (
    AccessError,
    AccountChoiceError,
    CfauditError,
    ProtocolError,
    SourceUnavailableError,
    ThrottledError,
)
from cfaudit_export.plugin.records import Credential
from cfaudit_export.sources.auditlogs.capabilities import ToolCapabilities
from cfaudit_export.sources.auditlogs.contract import ToolFault, read_fault
from cfaudit_export.sources.auditlogs.decode import PAGE_SCHEMA
from cfaudit_export.sources.auditlogs.nesting import read_page
from cfaudit_export.sources.auditlogs.page_size import PageSize
from cfaudit_export.sources.mcp.budget import WINDOW_SECONDS, CallBudget
from cfaudit_export.sources.mcp.failures import PERMISSION, CallFailedError
from cfaudit_export.sources.mcp.retry import RetryPolicy
from cfaudit_export.sources.mcp.session import Session
from cfaudit_export.sources.paging.habits import Habits
from cfaudit_export.sources.paging.page import Page
from cfaudit_export.sources.paging.query import Padding, Query, Rejection
from cfaudit_export.sources.paging.reader import CursorDeadError

_LOG = logging.getLogger(__name__)
_HOUR_MS = 3_600_000
# How often a question may be refused while a plain one works; a cursor is given up sooner, which costs little.
_DOUBTS, _DOUBTS_OF_CURSORS = 6, 2
# How often the plain one is asked before refusals are taken for a block, which refuses everything for minutes.
_MORE_CANARIES, _CANARY_SECONDS = 5, 1.0
SCOPE = "auditlogs:read"


@dataclass(frozen=True, slots=True)
class AuditLogsEndpoint:
    """What is called, and how.

    Attributes:
        url: the server, for messages.
        tool: the tool's name.
        arguments: sent with every call: the account, where the tool takes it.
        cost: upstream calls that one tool call costs at most.
        retry_seconds: longest time spent on one call that fails on the server's side.
        concurrency: calls in flight at once.
        capabilities: what the tool takes.
        names_blocks: whether the server says by itself that it blocks a credential of which it has read nothing yet.
    """

    url: str
    tool: str
    arguments: Mapping[str, Any]
    cost: int
    retry_seconds: float
    concurrency: int
    capabilities: ToolCapabilities
    names_blocks: Callable[[], Awaitable[bool]]


class AuditLogsReader:
    """Read pages. Many workers use one reader at once."""

    def __init__(
        self,
        session: Session,
        target: AuditLogsEndpoint,
        budget: CallBudget,
        credential: Credential,
    ) -> None:
        self._session = session
        self._target = target
        self._budget = budget
        self._credential = credential
        self._doctor = anyio.Lock()
        self._places = anyio.CapacityLimiter(target.concurrency)
        self.readings = anyio.CapacityLimiter(target.concurrency)  # of facets at once: each holds its rows
        self._successes = 0
        self.padding = Padding()  # learned when it first matters, which is at the first unreadable row
        self.exclusive = Padding()
        self.habits = Habits()
        self._size = PageSize()
        self.empty = PAGE_SCHEMA.empty_table()
        self.further: frozenset[str] = frozenset()  # fields that rows were seen to have beyond the known ones
        self.proven: set[str] = set()  # filters that were seen to leave something out
        self._unproven: set[str] = set()

    @property
    def cost(self) -> int:
        """Upstream calls that one page is counted as."""
        return self._budget.counted(self._target.cost)

    @property
    def capabilities(self) -> ToolCapabilities:
        """What the tool takes."""
        return self._target.capabilities

    def doubt(self, name: str) -> None:
        """Say, once, that a filter seems to have no effect."""
        if name not in self._unproven:
            self._unproven.add(name)
            _LOG.warning("the server seems to ignore a filter, its column stays empty", extra={"filter": name})

    async def page(self, query: Query) -> Page | Rejection:
        """Read one page. A filter that the tool would ignore is met by nothing.

        Raises:
            CursorDeadError: ask again from the start of the window.
            AccessError, ThrottledError, SourceUnavailableError, ProtocolError, SettingsError: there is no page.
        """
        if not self.capabilities.takes(query.filters):
            return Page(PAGE_SCHEMA.empty_table(), None)
        query = replace(query, limit=min(query.limit, self.capabilities.most_rows))
        retry, others_work = self._retry_policy(), 0
        while True:
            outcome = await self._persist(query, retry)
            match outcome:
                case Page() | Rejection():
                    return outcome
                case ToolFault(kind="refused"):
                    others_work += await self._diagnose(query)
                    if others_work > _DOUBTS_OF_CURSORS and query.cursor is not None:
                        raise CursorDeadError
                    if others_work > _DOUBTS:
                        raise ProtocolError(
                            "the server refuses this query, but accepts a plain one; "
                            f"check the filters and the time range ({_asked(query)})"
                        )
                case _:
                    raise fault_error(outcome)

    async def _ask(self, query: Query) -> Page | Rejection | ToolFault | CallFailedError:
        async with self._places:
            # Here, right before it is sent: what is drawn of a shared budget is good for some seconds only.
            sent_at = await self._budget.acquire(self._target.cost)
            try:
                arguments = {**self._target.arguments, **query.arguments()}
                most = self._size.most_bytes(query.limit)
                reply = await self._session.call(self._target.tool, arguments, most_bytes=most)
            except CallFailedError as failure:
                failure.sent_at = sent_at
                return failure
        outcome = read_fault(reply.text) if reply.is_error else read_page(reply.text)
        if isinstance(outcome, Page):
            self._size.saw(outcome.rows.num_rows, len(reply.text))
            self._places.total_tokens = self.readings.total_tokens = self._size.at_once(self._target.concurrency)
            outcome = replace(outcome, asked=query.limit)
        if isinstance(outcome, Page | Rejection):
            self._successes += 1
            self._budget.served(self._target.cost)
        if isinstance(outcome, Page) and outcome.further - self.further:
            self.further |= outcome.further
            _LOG.warning("the server's rows have further fields", extra={"fields": shown(sorted(self.further))})
        return outcome

    async def _persist(self, query: Query, retry: RetryPolicy) -> Page | Rejection | ToolFault:
        """Ask until the tool answers, and not that Cloudflare's API fails."""
        while True:
            asked = replace(query, limit=min(query.limit, self._size.rows))
            outcome = await self._ask(asked)
            match outcome:
                case CallFailedError(kind="too_large") if self._size.shrink(asked.limit):
                    _LOG.info("asking for fewer rows", extra={"rows": self._size.rows})
                case CallFailedError():
                    await retry.outlast(outcome)
                case ToolFault(kind="unavailable"):
                    failed = SourceUnavailableError(f"Cloudflare's API fails ('{outcome.message}'); try again later")
                    await retry.again_after(outcome.message, failed)
                case _:
                    return outcome

    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self._budget, self._target.retry_seconds, self._target.url)

    async def _diagnose(self, query: Query) -> bool:
        """Find out what `Cloudflare API request failed` means this time; return when asking again makes sense.

        One worker asks, the others wait for what it learns. Returns whether a plain question works: it may be that
        the block has just ended, or that a server refuses now and then whatever it is asked, so only when that is so
        again and again is it the question's own fault. For the same reason one refused canary is no block.
        """
        seen = self._successes
        async with self._doctor:
            if self._successes != seen:
                return False
            pauses = self._budget.pauses
            if await self._canary(query):
                return self._budget.pauses == pauses  # else the server blocked us, and does no longer
            token = await self._credential.token()
            if token is not None and await self._credential.renew(token) and await self._canary(query):
                return False
            for _ in range(_MORE_CANARIES):
                if not self._budget.affords(_CANARY_SECONDS):
                    break
                await self._budget.wait(_CANARY_SECONDS, "call refused")
                if self._successes != seen or await self._canary(query):
                    return False
            await self._outlast_a_block()
            if not await self._canary(query):
                raise AccessError(_no_permission(self._credential.kind))
            return False

    async def _outlast_a_block(self) -> None:
        """Wait until a block is certainly over, unless there can be none: a missing permission stays missing.

        Raises:
            AccessError: it is not a block.
            ThrottledError: it may be one, and so long a wait is not allowed.
        """
        what = _no_permission(self._credential.kind)
        if not self._successes and await self._target.names_blocks():
            raise AccessError(what)
        doubt = f"{what}; or its user's calls are spent, by whatever program, which blocks them for minutes"
        if not self._budget.affords(WINDOW_SECONDS):
            raise ThrottledError(
                f"{doubt}; the server does not say which, so run again after five minutes, and if it is refused then, "
                "check the permission",
                retry_after_seconds=WINDOW_SECONDS,
            )
        if not self._successes:
            _LOG.warning("refused, and the server does not say why: waiting tells", extra={"because": doubt})
        self._budget.pause(WINDOW_SECONDS)

    async def _canary(self, query: Query) -> bool:
        """Ask the plainest question there is; True when the server answers it, be it with a rejected row."""
        plain = replace(query, since_ms=query.before_ms - _HOUR_MS, limit=1, cursor=None, filters=())
        outcome = await self._persist(plain, self._retry_policy())
        return not (isinstance(outcome, ToolFault) and outcome.kind == "refused")


def fault_error(fault: ToolFault) -> CfauditError:
    """Return the error to end the run with."""
    if fault.kind == "account":
        return AccountChoiceError(fault.accounts)
    if fault.kind == "arguments":
        return ProtocolError(f"the server does not accept our arguments: {fault.message}")
    if fault.kind == "refused":
        return AccessError(_no_permission())
    return ProtocolError(f"the server answered something unknown: {fault.message}")


def _no_permission(kind: str = "token") -> str:
    whose = (
        f"this sign-in; its user needs the permission '{PERMISSION}' on this account, and must have allowed the scope "
        f"'{SCOPE}'"
        if kind == "oauth"
        else f"this credential; the token needs the permission '{PERMISSION}' on this account"
    )
    return f"Cloudflare refuses to read audit logs with {whose}"


def _asked(query: Query) -> str:
    filters = " ".join(f"{name}={value}" for name, value in query.filters)
    arguments = query.arguments()
    return f"{arguments['since']} to {arguments['before']} {filters}".strip()
