"""Calls drawn from a quota that all workers of a credential share, on whatever machine they are.

Calls are drawn in blocks, by compare-and-swap of one document in the checkpoint store. What a worker does not use of a
block in time lapses, so a worker that dies with a block in hand costs the others a few calls, and never a block of the
server. Methods wait for the store; they may be called from several threads.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from cfaudit_export.errors import CfauditError
from cfaudit_export.plugin.shared_documents import SharedDocuments
from cfaudit_export.sources.mcp.quota_document import (
    BLOCK_SECONDS,
    DRAWN_SECONDS,
    Draw,
    Quota,
    decode,
    encode,
    fresh,
    spent,
)

_LOG = logging.getLogger(__name__)
MOST_CALLS = 10
"""Calls in a block, at most. A worker begins with one, and doubles what it used up in time."""
_TRIES = 20
_AWAY_SECONDS = 30.0
_HOURLY_SECONDS = 360.0
_JITTER_SECONDS = 2.0


class SharedQuota:
    """The calls that one worker may make, of those that all may make together."""

    def __init__(
        self,
        store: SharedDocuments,
        name: str,
        limit: int,
        *,
        worker: str,
        fallback_workers: int,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Build it; nothing is asked of the store yet.

        Args:
            store: holds the document.
            name: of the document; one for each budget of the server.
            limit: calls in any window.
            worker: names this process in the document.
            fallback_workers: by so many the limit is divided while the store is away.
            now: a monotonic clock in seconds.
            sleep: waits that many seconds, where another worker was faster.
            jitter: returns a number from 0 to 1.
        """
        self._store = store
        self._name = name
        self._limit = limit
        self._worker = worker
        self._fallback = max(limit // max(fallback_workers, 1), 1)
        self._fallback_workers = max(fallback_workers, 1)
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._turn = threading.Lock()
        self._block: tuple[float, int] = (0.0, 0)  # until when, how many are left
        self._size = 1
        self._none_until = 0.0
        self._blocked: tuple[float, float] | None = None  # told to us, and not to the others yet: when, how long
        self._last: tuple[float, float, Quota] | None = None  # by our clock, by that of the store: what was seen last
        self._away_until = 0.0
        self._is_away = False
        self._alone: deque[tuple[float, int]] = deque()
        self._said_limit = False

    def draw(self, calls: int, *, is_backfill: bool) -> float:
        """Draw so many calls to be made at once, and return 0; or return how many seconds to wait first."""
        with self._turn:
            now = self._now()
            until, left = self._block
            if now < until and left >= calls:
                self._block = until, left - calls
                return 0.0
            if self._blocked is None and now < self._none_until:
                return self._none_until - now
            if now < self._away_until:
                return self._drawn_alone(calls, now)
            try:
                delay = self._drawn(calls, now, is_backfill=is_backfill)
            except CfauditError as error:
                return self._left_alone(calls, error)
            if self._is_away:
                _LOG.info("the store of the budget is back")
            self._is_away = False
            return delay

    def left(self) -> int:
        """Return how many calls were left for all when the document was seen last, and of the block in hand."""
        until, left = self._block
        own = left if self._now() < until else 0
        if self._last is None:
            return own
        seen_at, at, quota = self._last
        now = at + self._now() - seen_at
        return max(quota.allowed(now, is_backfill=False) - quota.at(now).drawn, 0) + own

    @property
    def has_news(self) -> bool:
        """Whether the next draw has something to tell the others."""
        return self._blocked is not None

    def blocked(self, seconds: float) -> None:
        """Note that the server blocks the credential; the next draw tells the others."""
        with self._turn:
            self._blocked = self._now(), seconds
            self._block = (0.0, 0)

    def _drawn(self, calls: int, began: float, *, is_backfill: bool) -> float:
        until, left = self._block
        if until and began < until:
            self._size = min(self._size * 2, MOST_CALLS)
        elif left:
            self._size = max(self._size // 2, 1)
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(0.01 * 2 ** min(attempt, 5) * self._jitter())
            began = self._now()  # a block is ours for less than its time, as to take it takes time
            found = self._store.find_shared(self._name)
            now = self._store.shared_now()
            before = self._read(found and found[0], now)
            delay, after = self._wanted(before, calls, now, is_backfill=is_backfill)
            is_news = after != before or found is None
            if is_news and not self._store.swap_shared(self._name, encode(after), expected=found and found[1]):
                continue
            self._blocked = None
            self._alone.clear()
            self._last = began, now, after
            if delay:
                self._block, self._none_until = (0.0, 0), self._now() + delay
            else:
                self._block = began + BLOCK_SECONDS, after.draws[-1].calls - calls
            return delay
        return 1.0 + self._jitter()

    def _wanted(self, before: Quota, calls: int, now: float, *, is_backfill: bool) -> tuple[float, Quota]:
        """Return how long to wait, and the document that says so, or that has our draw."""
        after = before.at(now).under(self._limit, now)
        if after.limit < self._limit and not self._said_limit:
            self._said_limit = True
            words = f"another worker shares this credential under a limit of {after.limit}; that holds"
            _LOG.warning(words)
        if self._blocked is not None:
            told_at, seconds = self._blocked
            rest = told_at + seconds - self._now()
            after = after.blocked(rest, now) if rest > 0 else after
        if not is_backfill and now > after.hourly_until - _HOURLY_SECONDS / 2:
            after = replace(after, hourly_until=now + _HOURLY_SECONDS)
        if alone := self._counting_alone(self._now()):
            after = after.with_draw(Draw(now, alone, self._worker))
        delay = after.wait_for(calls, now, is_backfill=is_backfill)
        if delay:
            return delay + _JITTER_SECONDS * self._jitter(), after
        free = after.allowed(now, is_backfill=is_backfill) - after.drawn
        size = max(min(max(self._size, calls), free), calls)
        return 0.0, after.with_draw(Draw(now, size, self._worker))

    def _read(self, content: bytes | None, now: float) -> Quota:
        if content is None:
            return fresh(self._limit, now)
        try:
            return decode(content)
        except ValueError:
            self._store.swap_shared(f"{self._name}.bad", content, expected=None)
            extra = {"document": self._name, "kept": f"{self._name}.bad"}
            _LOG.warning("the document of the budget is damaged: taking the window for spent", extra=extra)
            return spent(self._limit, now)

    def _left_alone(self, calls: int, error: CfauditError) -> float:
        """Go on without the store for a while."""
        now = self._now()
        self._away_until = now + _AWAY_SECONDS
        if not self._is_away:
            self._is_away = True
            extra = {"calls": self._fallback, "error": str(error)}
            _LOG.warning("the store of the budget is away: going on with a share of the budget", extra=extra)
        return self._drawn_alone(calls, now)

    def _drawn_alone(self, calls: int, now: float) -> float:
        """Draw a share of what was left when the document was seen last; the others have no store either."""
        others, clear_at = 0, now
        if self._last is not None:
            seen_at, at, seen = self._last
            counting = seen.at(at + now - seen_at)
            others = counting.drawn
            clear_at = min((one.at + DRAWN_SECONDS + seen_at - at for one in counting.draws), default=now)
        share = (self._limit - others) // self._fallback_workers
        if self._counting_alone(now) + calls <= share:
            self._alone.append((now, calls))
            return 0.0
        ends = [at + DRAWN_SECONDS for at, _ in self._alone][:1] + ([clear_at] if others else [])
        return max(min(ends, default=now + 1.0) - now, 1.0)

    def _counting_alone(self, now: float) -> int:
        while self._alone and self._alone[0][0] + DRAWN_SECONDS <= now:
            self._alone.popleft()
        return sum(calls for _, calls in self._alone)
