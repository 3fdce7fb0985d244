"""Requests that wait for the word that their events are indexed.

An indexer counts requests for itself, from 0 in each channel, and says `true` of a number once. Behind a balancer that
is not sticky two indexers give the same number to two requests of one channel, and the `true` of the one would be
taken for the other's. A number that comes twice while the first still waits shows that, or a restart: neither of the
two requests is believed any more, they are sent again, and from then on every request has a channel of its own.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

from cfaudit_splunk.collector import Collector, Endpoint, Timing

_LOG = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class _Sent:
    rows: range
    at: float


class UnindexedRequests:
    """The requests of a load that were taken and are not known to be indexed."""

    def __init__(self, collector: Collector, timing: Timing, poll_seconds: float, timeout_seconds: float) -> None:
        self._collector = collector
        self._timing = timing
        self._longest_pause = poll_seconds
        self._timeout_seconds = timeout_seconds
        self._pause = min(_FIRST_PAUSE_SECONDS, poll_seconds)
        self._ask_at = 0.0
        self._sent: dict[tuple[Endpoint, str], dict[int, _Sent]] = {}
        self._channel = str(uuid.uuid4())
        self._is_scattered = False
        self._anew = False

    def __len__(self) -> int:
        return sum(map(len, self._sent.values()))

    @property
    def due(self) -> bool:
        """Whether it is time to ask."""
        return bool(self) and self._timing.now() >= self._ask_at

    def channel(self) -> str:
        """Return the channel for the next request."""
        return str(uuid.uuid4()) if self._is_scattered else self._channel

    def add(self, endpoint: Endpoint, channel: str, ack_id: int, rows: range) -> None:
        """Wait for a request; for none of two that have the same number."""
        if not self:
            self._ask_at = self._timing.now() + self._pause
        sent = self._sent.setdefault((endpoint, channel), {})
        if sent.pop(ack_id, None) is None:
            sent[ack_id] = _Sent(rows, self._timing.now())
            return
        if not self._is_scattered:
            _LOG.warning(
                "splunk counts acknowledgements twice: it was restarted, or a balancer before several indexers is not"
                " sticky; each request gets a channel of its own",
                extra={"url": endpoint.base},
            )
        self._is_scattered = True

    def pause(self) -> None:
        """Wait until it is time to ask."""
        self._timing.sleep(max(0.0, self._ask_at - self._timing.now()))

    def ask(self) -> list[range]:
        """Return the rows of requests that are acknowledged now, and give up those that have waited too long."""
        acknowledged = []
        for (endpoint, channel), sent in self._sent.items():
            ack_ids = self._collector.acknowledged(endpoint, sent, channel, anew=self._anew) if sent else ()
            acknowledged += [sent.pop(ack_id).rows for ack_id in ack_ids if ack_id in sent]
        oldest = self._timing.now() - self._timeout_seconds
        for key, sent in list(self._sent.items()):
            self._sent[key] = {ack_id: one for ack_id, one in sent.items() if one.at > oldest}
            if not self._sent[key]:
                del self._sent[key]
        # A balancer may send the next question to the indexer that knows.
        self._anew = not acknowledged
        first = min(_FIRST_PAUSE_SECONDS, self._longest_pause)
        self._pause = first if acknowledged else min(2 * self._pause, self._longest_pause)
        self._ask_at = self._timing.now() + self._pause
        return acknowledged
