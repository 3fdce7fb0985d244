"""Who reads what: ranges of time waiting for a worker, and walks that hand over what they will not reach soon.

Nobody knows beforehand how dense a range is. So a range starts as one walk, and after each page a walk that is worth
it gives the far parts of its range to workers that have nothing to do. Quiet accounts cost one call that way, and
busy ones keep every worker busy to the end.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import anyio

# A part is worth a walk of its own from this many calls on: its first and last page are partly wasted.
WORTH_CALLS = 3


@dataclass(slots=True)
class Range:
    """Milliseconds `[since, before)`; `before` moves down when a part is handed over."""

    since_ms: int
    before_ms: int


class Board:
    """The ranges that wait, and the count of workers that wait for one."""

    def __init__(self, ranges: list[Range], workers: int, worth_calls: int = WORTH_CALLS) -> None:
        """Build a board; a part of a range is handed over if it takes at least `worth_calls`."""
        self._waiting = deque(ranges)
        self._workers = workers
        self._worth_calls = worth_calls
        self._busy = 0
        self._changed = anyio.Condition()

    async def take(self) -> Range | None:
        """Return the next range, or None when every range is read."""
        async with self._changed:
            while not self._waiting and self._busy:
                await self._changed.wait()
            if not self._waiting:
                return None
            self._busy += 1
            return self._waiting.popleft()

    async def done(self) -> None:
        """Say that the range last taken is read to its end."""
        async with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    async def offer(self, mine: Range, reached_ms: int, calls_left: float) -> None:
        """Hand the far parts of a walk's range to idle workers, if they are worth it.

        Args:
            mine: the range of the walk; its end is moved down to the part that the walk keeps.
            reached_ms: how far the walk has come.
            calls_left: estimate of the calls it has yet to make.
        """
        idle = self._workers - self._busy - len(self._waiting)
        parts = min(idle + 1, int(calls_left / self._worth_calls), mine.before_ms - reached_ms)
        if parts < 2:
            return
        width = (mine.before_ms - reached_ms) / parts
        ends = [reached_ms + round(width * number) for number in range(1, parts)] + [mine.before_ms]
        async with self._changed:
            self._waiting.extend(Range(since, before) for since, before in pairwise(ends))
            mine.before_ms = ends[0]
            self._changed.notify_all()
