"""The one budget that all workers of a process share: calls within a moving window, and pauses for all of them.

The server does not tell its own budget, which may be less: when it blocks us, we learn it from what it served before.

Cloudflare allows 1,200 calls in five minutes to a user, and blocks all of the user's calls for five minutes when
there are more (developers.cloudflare.com/fundamentals/api/reference/limits).
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from cfaudit_export.errors import ThrottledError
from cfaudit_export.plugin.records import SourceContext

_LOG = logging.getLogger(__name__)

WINDOW_SECONDS = 300.0
# A call counts for the server when it arrives, which for one may be later after it was sent than for another.
_COUNTED_SECONDS = WINDOW_SECONDS + 5.0
# How long what was learnt of a budget holds. Others may have had a part of it, and need it no longer.
_LEARNT_SECONDS = 3_600.0
# Served less than that, others had nearly all of it; and a shorter block is not for a budget. Nothing to go by.
_LEAST_LEARNT = 60
_LEAST_BLOCK_SECONDS = 60.0


def shared_budget(context: SourceContext, budget_calls: int) -> CallBudget:
    """Return the budget of all sources that this process reads with one credential; the first one sets it."""
    budget: CallBudget = context.shared.values.setdefault("budget", CallBudget(budget_calls, context.max_wait_seconds))
    return budget


class CallBudget:
    """Hand out calls no faster than the budget, and none while paused."""

    def __init__(
        self,
        budget_calls: int,
        max_wait_seconds: float | None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Build a budget.

        Args:
            budget_calls: upstream calls in any five minutes; 0 for no limit.
            max_wait_seconds: longest time that all waits together may take; None for no bound.
            now: a monotonic clock in seconds.
            sleep: waits that many seconds.
        """
        self._budget = budget_calls
        self._max_wait = max_wait_seconds
        self.now = now
        self._sleep = sleep
        self.waited_seconds = 0.0
        self._waited_until = now()
        self.waiting: Callable[[str | None], None] = lambda _why: None  # told why all calls wait; None: they go on
        self._spent: deque[tuple[float, int]] = deque()
        self._served: deque[tuple[float, int]] = deque()
        self._learnt: tuple[float, int] = (0.0, 0)  # until when, how many
        self._in_window = 0
        self._share = 1
        self._paused_until = 0.0
        self._blocked_at = -math.inf
        self.calls = 0
        self.pauses = 0
        self.retries = 0

    def left(self) -> int | None:
        """Return how many upstream calls may go out at once; None without a budget."""
        self._forget()
        budget = self._now_allowed()
        return max(budget - self._in_window, 0) if budget else None

    def spare(self, kept: float = 0.5) -> int | None:
        """Return how many upstream calls are left while a share of the budget is kept; None without a budget."""
        left = self.left()
        return None if left is None else left - int(self._now_allowed() * kept)

    def assume(self, share: int) -> None:
        """Count each call as one `share`-th of its cost, rounded up, until the server blocks us.

        For a server that seems to remember who calls: see `auditlogs/cost.py`.
        """
        self._share = share
        self._in_window = sum(self.counted(cost) for _at, cost in self._spent)

    def counted(self, cost: int) -> int:
        """Return how many upstream calls a call that costs at most `cost` is counted as."""
        return -(-cost // self._share)

    async def acquire(self, cost: int) -> float:
        """Wait until a call of at most `cost` upstream calls may go out, count it, and return when that is.

        One of 0 waits until the pause is over.

        Raises:
            ThrottledError: it would take longer than the run may wait.
        """
        while (delay := self._delay(cost)) > 0:
            if not self.affords(delay):
                raise ThrottledError(
                    f"the next call must wait {delay:.0f} s, longer than --max-wait allows; "
                    "finished work is saved; run again later",
                    retry_after_seconds=delay,
                )
            await self.wait(delay, "throttled" if self._pausing() else "budget spent")
        self._spent.append((self.now(), cost))
        self._in_window += self.counted(cost)
        self.calls += cost > 0
        return self.now()

    def served(self, cost: int) -> None:
        """Note that a call of at most `cost` upstream calls was answered, and not refused for being one too many."""
        self._served.append((self.now(), cost))
        while self._served[0][0] <= self.now() - WINDOW_SECONDS:
            self._served.popleft()

    def affords(self, seconds: float) -> bool:
        """Say whether so long a wait, from now on, stays within what may be waited in all."""
        return self._max_wait is None or self.waited_seconds + self._added(seconds) <= self._max_wait

    async def wait(self, seconds: float, why: str) -> None:
        """Wait; time in which several wait counts once."""
        self.waited_seconds += self._added(seconds)
        self._waited_until = max(self._waited_until, self.now() + seconds)
        self.waiting(f"{why}, {seconds:.0f} s")
        await self._sleep(seconds)
        self.waiting(None)

    def pause(self, seconds: float, sent_at: float | None = None) -> None:
        """Hold all calls for so long, because the server blocks us; and learn how many calls it takes for that.

        A call sent at `sent_at` that was refused like another one before it tells of the same block, and nothing new.
        """
        if sent_at is not None and sent_at <= self._blocked_at:
            return
        _LOG.warning("throttled by the server", extra={"wait_seconds": seconds})
        if self._share > 1:
            # Others may have caused it, or calls cost more than assumed. Only the higher cost is safe in both cases.
            _LOG.warning(
                "throttled within the budget: counting the highest cost of each call from now on",
                extra={"calls_assumed": self._in_window},
            )
            self.assume(1)
        if seconds >= _LEAST_BLOCK_SECONDS and not self._pausing():
            self._learn()
        self._blocked_at = self.now()
        self._paused_until = max(self._paused_until, self.now() + seconds)
        self.pauses += 1

    def _added(self, seconds: float) -> float:
        now = self.now()
        return max(now + seconds - max(now, self._waited_until), 0.0)

    def _pausing(self) -> bool:
        return self._paused_until > self.now()

    def _learn(self) -> None:
        """Take what was served in the last window for the server's budget."""
        since = self.now() - WINDOW_SECONDS
        served = sum(self.counted(cost) for at, cost in self._served if at > since)
        if served >= _LEAST_LEARNT:
            self._learnt = (self.now() + _LEARNT_SECONDS, served)
            _LOG.info("learned the server's budget", extra={"calls": served})

    def _now_allowed(self) -> int:
        """Return how many calls a window may have now; 0 for any number."""
        until, learnt = self._learnt
        return learnt if self.now() < until and not 0 < self._budget < learnt else self._budget

    def _delay(self, cost: int) -> float:
        if self._pausing():
            return self._paused_until - self.now()
        self._forget()
        budget = self._now_allowed()
        excess = self._in_window + self.counted(cost) - budget
        if not budget or excess <= 0 or not self._spent:
            return 0.0
        for at, spent in self._spent:
            excess -= self.counted(spent)
            if excess <= 0:
                return at + _COUNTED_SECONDS - self.now()
        return self._spent[-1][0] + _COUNTED_SECONDS - self.now()

    def _forget(self) -> None:
        horizon = self.now() - _COUNTED_SECONDS
        while self._spent and self._spent[0][0] <= horizon:
            self._in_window -= self.counted(self._spent.popleft()[1])
