"""Staged events -> all of them taken, acknowledged or refused by Splunk, and each of that noted as soon as it is known.

Whatever is not noted is sent again, by the next round or by the next run. So an event is there twice only where a
request brought no clear answer, or was not acknowledged in time.
"""

from __future__ import annotations

import logging

from cfaudit_export import LoadUnknownError, Rejected, SinkError, SinkRefusedError
from cfaudit_splunk.collector import Collector, Endpoint, Timing
from cfaudit_splunk.config import SplunkConfig
from cfaudit_splunk.events import EventRequests
from cfaudit_splunk.progress import BatchProgress
from cfaudit_splunk.replies import BadEvent, Stopped, Taken, TooLarge
from cfaudit_splunk.waiting import UnindexedRequests

_LOG = logging.getLogger(__name__)

# Sent once, and once more what was not acknowledged; more would only add to what is there twice.
_ROUNDS = 2
# Requests without an acknowledgement are what a crash sends twice.
_MOST_WAITING = 32
# So many events refused and none ever taken: then it is not the events.
_HOPELESS = 20


class BatchDelivery:
    """Brings the missing events of one batch to Splunk."""

    def __init__(
        self,
        events: EventRequests,
        progress: BatchProgress,
        collector: Collector,
        config: SplunkConfig,
        timing: Timing,
        *,
        refused_before: bool = False,
        taken_before: bool = False,
    ) -> None:
        self._events = events
        self._progress = progress
        self._collector = collector
        self._ack = config.ack
        self._waiting = UnindexedRequests(collector, timing, config.ack_poll_seconds, config.ack_timeout_seconds)
        self._refused: dict[int, Rejected] = {}
        self._is_believed = refused_before  # that refusals are due to the events
        self._taken_before = taken_before or progress.has_taken

    def run(self) -> None:
        """Send what is missing until nothing is.

        Raises:
            SinkError: not all of it is taken now.
            LoadUnknownError: some of it was sent, and there was no clear answer or no acknowledgement.
            SinkRefusedError: Splunk will not take events until something is changed.
        """
        for _ in range(_ROUNDS):
            try:
                for rows in self._progress.missing():
                    self._send(rows)
            except SinkError:
                self._take(self._waiting.ask())  # what is acknowledged by now need not be sent again
                raise
            self._settle(at_most=0)
            if self._refused and not self._is_believed and not self._taken_before:
                raise _nothing_taken(next(iter(self._refused.values())).reason)
            self._note_refused()
            missing = sum(map(len, self._progress.missing()))
            if not missing:
                return
            _LOG.warning("events not acknowledged, they may be in splunk twice", extra={"rows": missing})
        raise LoadUnknownError(
            f"splunk took {missing} events but did not acknowledge them; see whether its indexers are well, the"
            " events stay staged and are sent again by the next run"
        )

    def _send(self, rows: range) -> None:
        todo = [rows]
        while todo:
            for request in self._events.requests(todo.pop()):
                channel = self._waiting.channel()
                endpoint, reply = self._collector.send(request, channel)
                todo += self._remains(request.rows, endpoint, channel, reply)
                self._settle(at_most=_MOST_WAITING)

    def _remains(
        self, rows: range, endpoint: Endpoint, channel: str, reply: Taken | Stopped | BadEvent | TooLarge
    ) -> list[range]:
        """Note what became of a request, and return what of it must be sent again, the first last."""
        match reply:
            case Taken(ack_id=int(ack_id)) if self._ack != "off":
                self._is_believed = True
                self._waiting.add(endpoint, channel, ack_id, rows)
            case Taken():
                self._take([rows])
            case Stopped(at=at) if at < len(rows):
                self._take([rows[:at]])
                return [rows[at:]]
            case BadEvent(at=int(at)) if 0 < at < len(rows):
                self._take([rows[:at]])
                return [rows[at + 1 :], rows[at : at + 1]]  # alone, so that it is judged for itself
            case _ if len(rows) > 1:
                # Nothing was taken; the first event is bad, or it is too much for whatever is in between.
                half = len(rows) // 2
                return [rows[half:], rows[:half]]
            case _:
                self._refuse(rows.start, reply.words)
        return []

    def _take(self, taken: list[range]) -> None:
        if taken:
            self._progress.take(*taken)
            self._is_believed = True
            self._note_refused()

    def _refuse(self, row: int, words: str) -> None:
        self._refused[row] = Rejected(self._events.event_id(row), words)
        if self._is_believed:
            self._note_refused()
        elif len(self._refused) >= _HOPELESS:
            raise _nothing_taken(words)

    def _note_refused(self) -> None:
        for row, rejected in self._refused.items():
            self._progress.reject(row, rejected)
        self._refused.clear()

    def _settle(self, at_most: int) -> None:
        """Hear about acknowledgements until at most so many requests wait for one."""
        while len(self._waiting) > at_most:
            self._waiting.pause()
            self._take(self._waiting.ask())
        if self._waiting.due:
            self._take(self._waiting.ask())


def _nothing_taken(words: str) -> SinkRefusedError:
    return SinkRefusedError(f"splunk refuses every event it is given: {words}; none was quarantined")
