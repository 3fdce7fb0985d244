"""What all sources of a process spend together: calls within a moving window, pauses, and what a block teaches.

Sources of several accounts run in threads of their own, so each method holds a lock, and none waits.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)

WINDOW_SECONDS = 300.0
# A call counts for the server when it arrives, which for one may be later after it was sent than for another.
COUNTED_SECONDS = WINDOW_SECONDS + 5.0
# How long what was learnt of a budget holds. Others may have had a part of it, and need it no longer.
_LEARNT_SECONDS = 3_600.0
# Served less than that, others had nearly all of it; and a shorter block is not for a budget. Nothing to go by.
_LEAST_LEARNT = 60
_LEAST_BLOCK_SECONDS = 60.0
# How long a backfill leaves the next call to hourly work that waits for it, before it looks again.
_YIELD_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a block taught of the server's budget: so many calls in a window, believed until then."""

    until: float = 0.0
    calls: int = 0


class CallWindow:
    """The calls of the last five minutes, and what the server said of them."""

    def __init__(self, budget_calls: int, max_wait_seconds: float | None, now: Callable[[], float]) -> None:
        """Build it.

        Args:
            budget_calls: upstream calls in any five minutes; 0 for no limit.
            max_wait_seconds: longest time that all waits together may take; None for no bound.
            now: a monotonic clock in seconds.
        """
        self.now = now
        self.waited_seconds = 0.0
        self.pauses = 0
        self._budget = budget_calls
        self._max_wait = max_wait_seconds
        self._turn = threading.RLock()
        self._waited_until = now()
        self._spent: deque[tuple[float, int]] = deque()
        self._served: deque[tuple[float, int]] = deque()
        self._learnt = Learnt()
        self._in_window = 0
        self._share = 1
        self._paused_until = 0.0
        self._blocked_at = -math.inf
        self._hourly_waiting = 0

    @property
    def is_paused(self) -> bool:
        """Say whether the server blocks us."""
        return self._paused_until > self.now()

    def counted(self, cost: int) -> int:
        """Return how many upstream calls a call that costs at most `cost` is counted as."""
        return -(-cost // self._share)

    def allowed(self) -> int:
        """Return how many calls a window may have now; 0 for any number."""
        learnt = self._learnt
        return learnt.calls if self.now() < learnt.until and not 0 < self._budget < learnt.calls else self._budget

    def left(self) -> int | None:
        """Return how many upstream calls may go out at once; None without a budget."""
        with self._turn:
            self._forget()
            budget = self.allowed()
            return max(budget - self._in_window, 0) if budget else None

    def assume(self, share: int) -> None:
        """Count each call as one `share`-th of its cost, rounded up, until the server blocks us."""
        with self._turn:
            self._share = share
            self._in_window = sum(self.counted(cost) for _at, cost in self._spent)

    def delay(self, cost: int, *, is_backfill: bool) -> float:
        """Return how many seconds a call has to wait, 0 for none."""
        with self._turn:
            delay = self._delay(cost)
            return _YIELD_SECONDS if not delay and is_backfill and self._hourly_waiting else delay

    def spend(self, cost: int, *, is_backfill: bool) -> float:
        """Count a call that may go out now, and return 0; or return how many seconds it has to wait first."""
        with self._turn:
            delay = self.delay(cost, is_backfill=is_backfill)
            if not delay:
                self._spent.append((self.now(), cost))
                self._in_window += self.counted(cost)
            return delay

    def served(self, cost: int) -> None:
        """Note that a call was answered, and not refused for being one too many."""
        with self._turn:
            self._served.append((self.now(), cost))
            while self._served[0][0] <= self.now() - WINDOW_SECONDS:
                self._served.popleft()

    def affords(self, seconds: float) -> bool:
        """Say whether so long a wait, from now on, stays within what may be waited in all."""
        with self._turn:
            return self._max_wait is None or self.waited_seconds + self._added(seconds) <= self._max_wait

    def will_wait(self, seconds: float) -> None:
        """Count a wait that begins now; time in which several wait counts once."""
        with self._turn:
            self.waited_seconds += self._added(seconds)
            self._waited_until = max(self._waited_until, self.now() + seconds)

    def hourly_waits(self) -> AbstractContextManager[None]:
        """Return a context in which backfills leave calls that become free to the caller."""
        return _Waiting(self)

    def count_waiting(self, more: int) -> None:
        """Count who waits for hourly work."""
        with self._turn:
            self._hourly_waiting += more

    def pause(self, seconds: float, sent_at: float | None, *, learns: bool = True) -> bool:
        """Hold all calls for so long, as `CallBudget.pause`; return whether that is news.

        What one of several workers was served teaches nothing: `learns` says whether it is all that was served.
        """
        with self._turn:
            if sent_at is not None and sent_at <= self._blocked_at:
                return False
            _LOG.warning("throttled by the server", extra={"wait_seconds": seconds})
            if self._share > 1:
                # Others may have caused it, or calls cost more than assumed. Only the higher cost is safe in both.
                _LOG.warning(
                    "throttled within the budget: counting the highest cost of each call from now on",
                    extra={"calls_assumed": self._in_window},
                )
                self.assume(1)
            if learns and seconds >= _LEAST_BLOCK_SECONDS and not self.is_paused:
                self._learn()
            self._blocked_at = self.now()
            self._paused_until = max(self._paused_until, self.now() + seconds)
            self.pauses += 1
            return True

    def _added(self, seconds: float) -> float:
        now = self.now()
        return max(now + seconds - max(now, self._waited_until), 0.0)

    def _learn(self) -> None:
        """Take what was served in the last window for the server's budget."""
        since = self.now() - WINDOW_SECONDS
        served = sum(self.counted(cost) for at, cost in self._served if at > since)
        if served >= _LEAST_LEARNT:
            self._learnt = Learnt(self.now() + _LEARNT_SECONDS, served)
            _LOG.info("learned the server's budget", extra={"calls": served})

    def _delay(self, cost: int) -> float:
        if self.is_paused:
            return self._paused_until - self.now()
        self._forget()
        budget = self.allowed()
        excess = self._in_window + self.counted(cost) - budget
        if not budget or excess <= 0 or not self._spent:
            return 0.0
        for at, spent in self._spent:
            excess -= self.counted(spent)
            if excess <= 0:
                return max(at + COUNTED_SECONDS - self.now(), 0.0)
        return max(self._spent[-1][0] + COUNTED_SECONDS - self.now(), 0.0)

    def _forget(self) -> None:
        horizon = self.now() - COUNTED_SECONDS
        while self._spent and self._spent[0][0] <= horizon:
            self._in_window -= self.counted(self._spent.popleft()[1])


class _Waiting:
    """Counts its holder as waiting while the context lasts."""

    def __init__(self, window: CallWindow) -> None:
        self._window = window

    def __enter__(self) -> None:
        self._window.count_waiting(1)

    def __exit__(self, *_: object) -> None:
        self._window.count_waiting(-1)
