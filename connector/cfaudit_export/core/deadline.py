"""A moment by which something must have ended, whatever a peer does: the end of a whole exchange, not of a silence.

Timeouts of libraries count from the last byte, so a peer that sends a byte a second holds a caller for as long as it
likes. `cfaudit_export.http.exchange` gives HTTP requests a total; for libraries that have no such thing (boto3,
Google's clients, OpenTelemetry's exporters) `Deadline.run` gives up waiting.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class DeadlineError(TimeoutError):
    """Something took longer than it may take in all; whether it took effect is unknown."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of what may be waited for.

    Attributes:
        ends_at: the moment, by `now`.
        seconds: how long it was in all, for messages.
        now: a monotonic clock in seconds.
    """

    ends_at: float
    seconds: float
    now: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, now: Callable[[], float] = time.monotonic) -> Deadline:
        """Return the deadline so many seconds from now."""
        return cls(now() + seconds, seconds, now)

    def left(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(self.ends_at - self.now(), 0.0)

    def error(self) -> DeadlineError:
        """Return the error to raise when it has passed."""
        return DeadlineError(f"not finished within {self.seconds:g} s")

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, and stop waiting for it at the deadline.

        The work has a thread of its own, which cannot be stopped: it may still take effect later, and ends with the
        process at the latest. For clients without a total timeout; give them their own timeouts too, so that an
        abandoned thread ends.

        Raises:
            DeadlineError: it has not finished in time.
            BaseException: whatever the work raises.
        """
        outcome: Future[T] = Future()
        context = contextvars.copy_context()

        def carry_out() -> None:
            try:
                outcome.set_result(context.run(work))
            except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
                outcome.set_exception(error)

        Thread(target=carry_out, name="with-deadline", daemon=True).start()
        try:
            return outcome.result(self.left())
        except FutureTimeoutError:
            if outcome.done():  # the work's own
                raise
            raise self.error() from None
