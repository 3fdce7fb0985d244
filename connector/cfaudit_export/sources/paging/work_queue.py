"""Who reads what: ranges of time waiting for a worker, and walks that hand over what they will not reach soon.

How dense a range is is unknown beforehand. So a range starts as one walk, and a worker that has nothing to do takes
a far part of the walk that has the most left, if it is worth it. Quiet accounts cost one call that way, and busy ones
keep every worker busy to the end.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import anyio

# A part is worth a walk of its own from this many calls on: its first and last page are partly wasted.
WORTH_CALLS = 3
# A part that turns out to hold nothing has cost a call. Beyond one for each worker, parts are a fifth of the pages.
_PAGES_PER_PART = 5


@dataclass(slots=True, eq=False)
class Range:
    """Milliseconds `[since, before)`; `before` moves down when a part is handed over.

    `reached` is how far its walk has come, and `calls_left` an estimate of what the rest takes; 0 where unknown.
    """

    since_ms: int
    before_ms: int
    reached_ms: int = 0
    calls_left: float = 0.0


class WorkQueue:
    """The ranges that wait, those that are read, and the count of workers that wait for one."""

    def __init__(self, ranges: list[Range], workers: int, worth_calls: int = WORTH_CALLS) -> None:
        """Build a queue; a part of a range is handed over if it takes at least `worth_calls`."""
        self._waiting = deque(ranges)
        self._walks: set[Range] = set()
        self._worth_calls = worth_calls
        self._busy = self._idle = 0
        self._pages = (workers - 1) * _PAGES_PER_PART  # that parts were not made for yet
        self._changed = anyio.Event()

    @property
    def is_last(self) -> bool:
        """Whether nothing is left to read beside what one worker reads."""
        return not self._waiting and self._busy <= 1

    async def next(self) -> Range | None:
        """Return the next range, or None when every range is read."""
        self._idle += 1
        try:
            while not self._waiting:
                if not self._busy:
                    return None
                if not self._share():
                    await self._changed.wait()
        finally:
            self._idle -= 1
        self._busy += 1
        mine = self._waiting.popleft()
        self._walks.add(mine)
        return mine

    async def done(self) -> None:
        """Say that the range last taken is read to its end."""
        self._busy -= 1
        self._tell_all()

    def pin(self, mine: Range) -> None:
        """Hand over nothing of a walk's range until it says again how far it has come."""
        self._walks.discard(mine)

    def progress(self, mine: Range, reached_ms: int, calls_left: float) -> None:
        """Note how far a walk has come, so that idle workers can take far parts of the rest.

        Args:
            mine: the range of the walk; its end moves down to the part that the walk keeps, now or at any time until
                it is held.
            reached_ms: how far the walk has come.
            calls_left: estimate of the calls it has yet to make.
        """
        mine.reached_ms, mine.calls_left = reached_ms, calls_left
        self._pages += 1
        self._walks.add(mine)
        if self._idle > len(self._waiting):
            self._share()

    def _share(self) -> bool:
        """Cut what is left of the longest walk, one part for it and one for each idle worker; False if not worth it."""
        longest = max(self._walks, key=lambda one: one.calls_left, default=None)
        if longest is None:
            return False
        reached, before = longest.reached_ms, longest.before_ms
        idle = self._idle - len(self._waiting)
        worth = min(int(longest.calls_left / self._worth_calls), before - reached)
        parts = min(idle + 1, worth, self._pages // _PAGES_PER_PART + 1)
        if parts < 2:
            return False
        self._pages -= (parts - 1) * _PAGES_PER_PART
        calls = longest.calls_left / parts
        width = (before - reached) / parts
        ends = [reached + round(width * number) for number in range(1, parts)] + [before]
        self._waiting.extend(Range(since, before, since, calls) for since, before in pairwise(ends))
        longest.before_ms, longest.calls_left = ends[0], calls
        self._tell_all()
        return True

    def _tell_all(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
