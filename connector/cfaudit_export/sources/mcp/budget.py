"""The budget as one source sees it: the calls of all sources of the process, and what this one took of them.

The server does not tell its own budget, which may be less: when it blocks us, we learn it from what it served before.

Cloudflare allows 1,200 calls in five minutes to a user, and blocks all of the user's calls for five minutes when
there are more (developers.cloudflare.com/fundamentals/api/reference/limits).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial

import anyio
import anyio.to_thread

from cfaudit_export.core.model import Window
from cfaudit_export.errors import ThrottledError
from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.plugin.shared_documents import SharedBudget
from cfaudit_export.sources.mcp.call_window import WINDOW_SECONDS, CallWindow
from cfaudit_export.sources.mcp.shared_quota import SharedQuota

__all__ = ["WINDOW_SECONDS", "CallBudget", "shared_budget"]

# Who has more to read than this is no regular run: it leaves calls to those that are.
_HOURLY = timedelta(days=1)


def shared_budget(context: SourceContext, budget_calls: int) -> CallBudget:
    """Return the budget of a source, with its own counters; the first source of a process sets how many calls."""
    made = CallBudget(budget_calls, context.max_wait_seconds, quota=_quota(context.shared.budget, budget_calls))
    budget: CallBudget = context.shared.values.setdefault("budget", made)
    return budget.beside()


def _quota(shared: SharedBudget | None, budget_calls: int) -> SharedQuota | None:
    """Return what all workers share; None where they share nothing, or calls are not limited."""
    if shared is None or not budget_calls:
        return None
    worker = f"{socket.gethostname()} {os.getpid()}"
    return SharedQuota(shared.store, shared.name, budget_calls, worker=worker, fallback_workers=shared.fallback_workers)


class CallBudget:
    """Hand out calls no faster than the budget, and none while paused.

    Attributes:
        now: the clock, in seconds.
        calls: so many calls this source made.
        retries: so many of its calls had to be made again.
        throttles: so often the server told this source that it blocks us.
        waited_seconds: how long all sources together waited since this one was made.
        waiting: told why calls of this source wait; None: they go on.
        is_backfill: whether the source leaves calls to others that have less to read.
    """

    def __init__(
        self,
        budget_calls: int,
        max_wait_seconds: float | None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        window: CallWindow | None = None,
        quota: SharedQuota | None = None,
    ) -> None:
        """Build a budget.

        Args:
            budget_calls: upstream calls in any five minutes; 0 for no limit.
            max_wait_seconds: longest time that all waits together may take; None for no bound.
            now: a monotonic clock in seconds.
            sleep: waits that many seconds.
            window: the calls that other sources spend, too; in place of the numbers and the clock.
            quota: the calls that other workers draw, too.
        """
        self._window = window or CallWindow(budget_calls, max_wait_seconds, now)
        self._quota = quota
        self._sleep = sleep
        self._waited_before = self._window.waited_seconds
        self.now = self._window.now
        self.waiting: Callable[[str | None], None] = lambda _why: None
        self.is_backfill = False
        self.calls = 0
        self.retries = 0
        self.throttles = 0

    def beside(self) -> CallBudget:
        """Return the budget for another source: the same calls and pauses, and counters of its own."""
        return CallBudget(0, None, sleep=self._sleep, window=self._window, quota=self._quota)

    @property
    def pauses(self) -> int:
        """How often the server blocked us, whichever source it told so."""
        return self._window.pauses

    @property
    def waited_seconds(self) -> float:
        """How long all sources together waited since this one was made; time in which several wait counts once."""
        return self._window.waited_seconds - self._waited_before

    def left(self) -> int | None:
        """Return how many upstream calls may go out at once; None without a budget."""
        left = self._window.left()
        return left if left is None or self._quota is None else min(left, self._quota.left())

    def spare(self, kept: float = 0.5) -> int | None:
        """Return how many upstream calls are left while a share of the budget is kept; None without a budget."""
        left = self.left()
        return None if left is None else left - int(self._window.allowed() * kept)

    def assume(self, share: int) -> None:
        """Count each call as one `share`-th of its cost, rounded up, until the server blocks us.

        For a server that seems to remember who calls: see `auditlogs/cost.py`.
        """
        self._window.assume(share)

    def counted(self, cost: int) -> int:
        """Return how many upstream calls a call that costs at most `cost` is counted as."""
        return self._window.counted(cost)

    def plan(self, windows: Iterable[Window]) -> None:
        """Take note of what the source is to read: where it is long, others that have less to read go first."""
        self.is_backfill = sum((window.duration for window in windows), timedelta()) > _HOURLY

    async def acquire(self, cost: int) -> float:
        """Wait until a call of at most `cost` upstream calls may go out, count it, and return when that is.

        One of 0 waits until the pause is over.

        Raises:
            ThrottledError: it would take longer than the run may wait.
        """
        window = self._window
        if delay := await self._spent(cost):
            with nullcontext() if self.is_backfill else window.hourly_waits():
                while delay:
                    if not self.affords(delay):
                        raise ThrottledError(
                            f"the next call must wait {delay:.0f} s, longer than --max-wait allows; "
                            "finished work is saved; run again later",
                            retry_after_seconds=delay,
                        )
                    await self.wait(delay, "throttled" if window.is_paused else "budget spent")
                    delay = await self._spent(cost)
        self.calls += cost > 0
        return self.now()

    async def _spent(self, cost: int) -> float:
        """Count a call that may go out now, and return 0; or return how many seconds it has to wait first."""
        window, is_backfill = self._window, self.is_backfill
        quota = self._quota
        if quota is not None and cost and (quota.has_news or not window.delay(cost, is_backfill=is_backfill)):
            # The store may take its time. What was drawn is drawn, also where the caller is gone meanwhile.
            draw = partial(quota.draw, window.counted(cost), is_backfill=is_backfill)
            if delay := await anyio.to_thread.run_sync(draw, abandon_on_cancel=True):
                return delay
        return window.spend(cost, is_backfill=is_backfill)

    def served(self, cost: int) -> None:
        """Note that a call of at most `cost` upstream calls was answered, and not refused for being one too many."""
        self._window.served(cost)

    def affords(self, seconds: float) -> bool:
        """Say whether so long a wait, from now on, stays within what may be waited in all."""
        return self._window.affords(seconds)

    async def wait(self, seconds: float, why: str) -> None:
        """Wait; time in which several wait counts once."""
        self._window.will_wait(seconds)
        self.waiting(f"{why}, {seconds:.0f} s")
        await self._sleep(seconds)
        self.waiting(None)

    def pause(self, seconds: float, sent_at: float | None = None) -> None:
        """Hold all calls for so long, because the server blocks us; and learn how many calls it takes for that.

        A call sent at `sent_at` that was refused like another one before it tells of the same block, and nothing new.
        """
        is_news = self._window.pause(seconds, sent_at, learns=self._quota is None)
        self.throttles += is_news
        if is_news and self._quota is not None:
            self._quota.blocked(seconds)
