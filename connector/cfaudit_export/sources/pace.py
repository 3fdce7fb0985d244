"""The one budget that all workers of a process share: calls within a moving window, and pauses for everybody.

Cloudflare allows 1,200 calls in five minutes to a user, and blocks all of the user's calls for five minutes when
there are more (developers.cloudflare.com/fundamentals/api/reference/limits).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from cfaudit_export.errors import ThrottledError

WINDOW_SECONDS = 300.0


class Pace:
    """Hand out calls no faster than the budget, and nobody any while paused."""

    def __init__(
        self,
        budget_calls: int,
        max_wait_seconds: float | None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        waiting: Callable[[str | None], None] = lambda _why: None,
    ) -> None:
        """Build a pace.

        Args:
            budget_calls: upstream calls in any five minutes; 0 for no limit.
            max_wait_seconds: longest wait a single call may need; None for no bound.
            now: a monotonic clock in seconds.
            sleep: waits that many seconds.
            waiting: told why everybody waits, and None when it goes on.
        """
        self._budget = budget_calls
        self._max_wait = max_wait_seconds
        self._now = now
        self._sleep = sleep
        self._waiting = waiting
        self._spent: deque[tuple[float, int]] = deque()
        self._in_window = 0
        self._paused_until = 0.0
        self.calls = 0
        self.pauses = 0

    def left(self) -> int | None:
        """Return how many upstream calls may go out at once; None without a budget."""
        self._forget()
        return max(self._budget - self._in_window, 0) if self._budget else None

    def spare(self) -> int | None:
        """Return how many upstream calls are left while keeping half of the budget; None without a budget."""
        left = self.left()
        return None if left is None else left - self._budget // 2

    async def acquire(self, cost: int) -> None:
        """Wait until a call of `cost` upstream calls may go out, and count it.

        Raises:
            ThrottledError: it would take longer than the run may wait.
        """
        while (delay := self._delay(cost)) > 0:
            if self._max_wait is not None and delay > self._max_wait:
                raise ThrottledError(
                    f"the next call must wait {delay:.0f} s, longer than --max-wait allows; "
                    "what was finished is saved, run again later"
                )
            self._waiting(f"{'throttled by the server' if self._pausing() else 'budget spent'}, {delay:.0f} s")
            await self._sleep(delay)
            self._waiting(None)
        self._spent.append((self._now(), cost))
        self._in_window += cost
        self.calls += 1

    def pause(self, seconds: float) -> None:
        """Let nobody call for so long, because the server blocks us."""
        self._paused_until = max(self._paused_until, self._now() + seconds)
        self.pauses += 1

    def _pausing(self) -> bool:
        return self._paused_until > self._now()

    def _delay(self, cost: int) -> float:
        if self._pausing():
            return self._paused_until - self._now()
        self._forget()
        if not self._budget or self._in_window + cost <= self._budget or not self._spent:
            return 0.0
        excess = self._in_window + cost - self._budget
        for at, spent in self._spent:
            excess -= spent
            if excess <= 0:
                return at + WINDOW_SECONDS - self._now()
        return self._spent[-1][0] + WINDOW_SECONDS - self._now()

    def _forget(self) -> None:
        horizon = self._now() - WINDOW_SECONDS
        while self._spent and self._spent[0][0] <= horizon:
            self._in_window -= self._spent.popleft()[1]
