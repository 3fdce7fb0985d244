"""What workers of one credential tell each other, as one small document: who drew how many calls, and who was blocked.

A worker draws calls before it makes them, and a draw counts from then on for as long as the last of its calls may count
for the server. Nothing is given back: a call may have been sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from cfaudit_export.sources.mcp.call_window import COUNTED_SECONDS

FORMAT = 1
BLOCK_SECONDS = 30.0
"""So long after it was drawn a call may be made."""
DRAWN_SECONDS = COUNTED_SECONDS + BLOCK_SECONDS
# So long a limit below that of other workers holds after its worker was last seen.
_LIMIT_SECONDS = 2 * DRAWN_SECONDS
# The share of the limit that backfills leave while hourly work is about.
_KEPT_FOR_HOURLY = 0.2
_LEARNT_SECONDS = 3_600.0
# What was drawn is more than what was sent. Each block that teaches takes a little off.
_OVERDRAWN = 0.95
_LEAST_LEARNT = 60
_LEAST_BLOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Draw:
    """So many calls that a worker may make within `BLOCK_SECONDS`; `at` is the store's time, in seconds."""

    at: float
    calls: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The document. Times are the store's, in seconds since 1970.

    Attributes:
        limit: calls in a window, the smallest that any worker was set to.
        limit_until: as long as that limit holds.
        draws: what counts, the oldest first.
        blocked_until: until when the server blocks the credential.
        learnt: calls that the server was seen to allow in a window; 0 for unknown.
        learnt_until: as long as that is believed.
        hourly_until: as long as hourly work is taken to be about, for which backfills leave a share.
        format: of the document.
    """

    limit: int
    limit_until: float
    draws: tuple[Draw, ...] = ()
    blocked_until: float = 0.0
    learnt: int = 0
    learnt_until: float = 0.0
    hourly_until: float = 0.0
    format: int = FORMAT

    def at(self, now: float) -> Quota:
        """Return the document without the draws that do not count any more."""
        return replace(self, draws=tuple(one for one in self.draws if one.at + DRAWN_SECONDS > now))

    def allowed(self, now: float, *, is_backfill: bool) -> int:
        """Return how many calls may be drawn in a window."""
        limit = min(self.limit, self.learnt) if self.learnt and now < self.learnt_until else self.limit
        return limit - int(limit * _KEPT_FOR_HOURLY) if is_backfill and now < self.hourly_until else limit

    @property
    def drawn(self) -> int:
        """How many calls are drawn and count."""
        return sum(one.calls for one in self.draws)

    def under(self, limit: int, now: float) -> Quota:
        """Return the document with a worker of this limit at work; the smallest limit of those at work holds."""
        if limit <= self.limit or now >= self.limit_until:
            return replace(self, limit=limit, limit_until=now + _LIMIT_SECONDS)
        return self

    def with_draw(self, draw: Draw) -> Quota:
        """Return the document with one more draw."""
        return replace(self, draws=(*self.draws, draw))

    def blocked(self, seconds: float, now: float) -> Quota:
        """Return the document after the server blocked a worker for so long; a long block teaches the limit."""
        told = replace(self, blocked_until=max(self.blocked_until, now + seconds))
        drawn = int(self.drawn * _OVERDRAWN)
        if seconds < _LEAST_BLOCK_SECONDS or self.blocked_until > now or drawn < _LEAST_LEARNT:
            return told
        return replace(told, learnt=drawn, learnt_until=now + _LEARNT_SECONDS)

    def wait_for(self, calls: int, now: float, *, is_backfill: bool) -> float:
        """Return in how many seconds so many calls can be drawn; 0 for now."""
        if self.blocked_until > now:
            return self.blocked_until - now
        excess = self.drawn + calls - self.allowed(now, is_backfill=is_backfill)
        if excess <= 0 or not self.draws:
            return 0.0
        for one in self.draws:
            excess -= one.calls
            if excess <= 0:
                return max(one.at + DRAWN_SECONDS - now, 0.0)
        return max(self.draws[-1].at + DRAWN_SECONDS - now, 0.0)


def spent(limit: int, now: float) -> Quota:
    """Return the document of a full window: where it cannot be known what was drawn, nothing is left of it."""
    return Quota(limit=limit, limit_until=now + _LIMIT_SECONDS, draws=(Draw(now, limit, "unknown"),))


def fresh(limit: int, now: float) -> Quota:
    """Return the first document."""
    return Quota(limit=limit, limit_until=now + _LIMIT_SECONDS)


def encode(quota: Quota) -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(quota)


def decode(content: bytes) -> Quota:
    """Return what a document says.

    Raises:
        ValueError: it is damaged, or of another format.
    """
    found = msgspec.json.decode(content, type=Quota)
    if found.format != FORMAT or found.limit < 1 or any(one.calls < 0 for one in found.draws):
        raise ValueError("another format")
    return found
