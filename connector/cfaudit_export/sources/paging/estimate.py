"""The pages behind a walk -> how many calls the rest of its range may take."""

from __future__ import annotations

import math
from collections import deque

_RECENT = 3


class RemainingCalls:
    """How far a walk came with how many calls.

    How dense a log is changes with the time of day, and for moments: neither the whole way nor its last steps alone
    tell what comes, so what is in the middle between both is believed.

    Attributes:
        calls: calls made so far that say something of the rest.
    """

    def __init__(self, since_ms: int) -> None:
        """Begin at a millisecond."""
        self.calls = 0
        self._since = since_ms
        self._steps: deque[tuple[int, int]] = deque([(since_ms, 0)], _RECENT)

    def calls_left(self, reached_ms: int, before_ms: int) -> float:
        """Note how far the walk has come, and guess the calls from there to `before_ms`."""
        left = max(before_ms - reached_ms, 0)
        whole = self.calls / max(reached_ms - self._since, 1)
        at_ms, calls = self._steps[0]
        recent = (self.calls - calls) / max(reached_ms - at_ms, 1)
        self._steps.append((reached_ms, self.calls))
        return left * math.sqrt(whole * recent)
